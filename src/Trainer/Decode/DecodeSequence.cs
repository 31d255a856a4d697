using System.Text;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Decode;

/// <summary>A sequence under way: its tokens, its text, and when it ends.</summary>
/// <param name="options">limits and ends</param>
/// <param name="length">tokens in the cache at first</param>
/// <param name="tokenizer">null gives no text, and no stop string then ends it</param>
internal class DecodeSequence(GenerateOptions options, int length, Tokenizer? tokenizer)
{
    private readonly TokenStream? _stream = tokenizer is null ? null : new TokenStream(tokenizer);
    private readonly StringBuilder _text = new();
    private int _taken;

    /// <summary>Tokens of prompt and answer whose keys and values are in the cache.</summary>
    public int Length { get; set; } = length;

    /// <summary>New tokens, the end token not included.</summary>
    public List<int> Tokens { get; } = [];

    /// <summary>Whole characters only, cut before a stop string.</summary>
    public string Text => _text.ToString();

    public FinishReason? Finish { get; private set; }

    /// <summary>Takes the next token.</summary>
    /// <param name="token">an id of the model</param>
    /// <param name="capacity">longest sequence</param>
    public void Accept(int token, int capacity)
    {
        if (options.EndTokens.Contains(token))
        {
            End(FinishReason.EndToken);
            return;
        }

        Tokens.Add(token);
        var before = _text.Length;
        _text.Append(_stream?.Append(token));
        if (Tokens.Count >= options.MaxNewTokens || Length + 1 >= capacity)
        {
            End(FinishReason.Length);
        }

        CutAtStop(before);
    }

    /// <summary>Ends here: what was left of an unfinished character comes out.</summary>
    public void End(FinishReason reason)
    {
        _text.Append(_stream?.Flush());
        Finish = reason;
    }

    /// <summary>The text that was not taken yet; while the sequence is under way, without what may be the beginning of a stop string.</summary>
    public string Take()
    {
        var end = Finish is null ? _text.Length - Held() : _text.Length;
        if (end <= _taken)
        {
            return "";
        }

        var text = _text.ToString(_taken, end - _taken);
        _taken = end;
        return text;
    }

    /// <summary>The longest end of the text that a stop string begins with.</summary>
    private int Held()
    {
        var held = 0;
        foreach (var stop in options.StopStrings)
        {
            var tail = Tail(stop.Length - 1);
            for (var n = tail.Length; n > held; n--)
            {
                if (stop.AsSpan().StartsWith(tail.AsSpan(tail.Length - n)))
                {
                    held = n;
                }
            }
        }

        return held;
    }

    private string Tail(int most)
    {
        var length = Math.Clamp(most, 0, _text.Length);
        return _text.ToString(_text.Length - length, length);
    }

    /// <summary>A stop string may begin in earlier text and end in the newest; of several at once the earliest counts.</summary>
    private void CutAtStop(int before)
    {
        var first = int.MaxValue;
        foreach (var stop in options.StopStrings)
        {
            var from = Math.Max(0, before - stop.Length + 1);
            var at = stop.Length == 0 ? -1 : _text.ToString(from, _text.Length - from).IndexOf(stop, StringComparison.Ordinal);
            first = at >= 0 ? Math.Min(first, from + at) : first;
        }

        if (first < int.MaxValue)
        {
            _text.Length = first;
            Finish = FinishReason.StopString;
        }
    }
}
