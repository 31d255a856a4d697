using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Record to tokens and loss mask. The prompt is context; the response and the end token after it are to be predicted. The white space
/// that a chat template puts after the end token is not part of the sample.
/// </summary>
public sealed class SampleTokenizer
{
    private const string AlpacaOpening = "Below is an instruction that describes a task";
    private const string AlpacaRequest = "Write a response that appropriately completes the request.\n\n### Instruction:\n";

    private readonly DatasetOptions _options;
    private readonly Func<string, int[]> _encode;
    private readonly Func<IReadOnlyList<ChatMessage>, bool, string>? _renderChat;
    private readonly int _endToken;

    /// <summary>A tokeniser; both functions are called from several threads at once.</summary>
    /// <param name="options">Format, tokenisation rule, turns, maximum length and what to do beyond it.</param>
    /// <param name="encode">Text to token ids; the special tokens that a chat template writes are recognised in it.</param>
    /// <param name="endToken">The id that ends a response: eos for alpaca, the end of a turn (&lt;|im_end|&gt;) for chat.</param>
    /// <param name="renderChat">The checkpoint's chat template: turns, and whether to open the assistant's turn at the end. For chat only.</param>
    public SampleTokenizer(
        DatasetOptions options, Func<string, int[]> encode, int endToken, Func<IReadOnlyList<ChatMessage>, bool, string>? renderChat)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(encode);
        ArgumentOutOfRangeException.ThrowIfNegative(endToken);
        if (options.Format == PromptFormat.Chat && renderChat is null)
        {
            throw new InvalidInputException("data: the format chat needs a checkpoint with a chat template; use the format alpaca without one");
        }

        if (options.Format == PromptFormat.Alpaca && options.Turns == TrainTurns.All)
        {
            throw new InvalidInputException("data: the format alpaca holds one answer; training on all turns needs the format chat");
        }

        if (options.Tokenization == TokenizationRule.Published && options.Turns == TrainTurns.All)
        {
            throw new InvalidInputException("data: the published tokenisation masks one prompt; training on all turns needs the separate one");
        }

        (_options, _encode, _endToken, _renderChat) = (options, encode, endToken, renderChat);
    }

    /// <summary>The sample of a record that passed the filters, or null with the reason.</summary>
    public TokenizedSample? Tokenize(SftRecord record, out Verdict verdict)
    {
        ArgumentNullException.ThrowIfNull(record);
        verdict = Verdict.Keep;
        var tokens = new List<int>();
        var loss = new List<TokenSpan>();
        if (_options.Format == PromptFormat.Chat && _options.Turns == TrainTurns.All)
        {
            TokenizeAllTurns(record, tokens, loss);
        }
        else if (Split(record) is var (prompt, response))
        {
            TokenizeLast(prompt, response, tokens, loss);
        }
        else
        {
            verdict = Verdict.Drop(DropReasons.NotSingleTurn);
            return null;
        }

        var total = tokens.Count;
        if (total > _options.MaxLength && _options.OverLength == OverLengthPolicy.Drop)
        {
            verdict = Verdict.Drop(DropReasons.TooLong);
            return null;
        }

        var kept = Math.Min(total, _options.MaxLength);
        var sample = new TokenizedSample(record.Id, [.. tokens[..kept]], Clip(loss, kept))
        {
            TokensCut = total - kept,
            EndTokenInside = EndsEarly(tokens, loss),
        };
        if (sample.LossTokens == 0)
        {
            verdict = Verdict.Drop(DropReasons.NoLossToken);
            return null;
        }

        return sample;
    }

    /// <summary>The text before the last answer, and the answer; null where the format cannot hold the record.</summary>
    private (string Prompt, string Response)? Split(SftRecord record)
    {
        if (_options.Format == PromptFormat.Chat)
        {
            var messages = record.ToMessages();
            var last = LastAssistant(messages);
            return (_renderChat!([.. messages.Take(last)], true), messages[last].Content);
        }

        return record.Messages switch
        {
            null => (Alpaca(record.Prompt, record.Input), record.Response),
            [{ Role: "user" } user, { IsAssistant: true } answer] => (Alpaca(user.Content, ""), answer.Content),
            _ => null,
        };
    }

    /// <summary>The published run's prompt (Stanford Alpaca's text).</summary>
    internal static string Alpaca(string instruction, string input) => input.Length == 0
        ? $"{AlpacaOpening}. {AlpacaRequest}{instruction}\n\n### Response:"
        : $"{AlpacaOpening}, paired with an input that provides further context. {AlpacaRequest}{instruction}\n\n### Input:\n{input}\n\n### Response:";

    private void TokenizeLast(string prompt, string response, List<int> tokens, List<TokenSpan> loss)
    {
        var context = _encode(prompt);
        if (_options.Tokenization == TokenizationRule.Separate)
        {
            tokens.AddRange(context);
            tokens.AddRange(_encode(response));
        }
        else
        {
            tokens.AddRange(_encode(prompt + response));
        }

        tokens.Add(_endToken);
        loss.Add(new TokenSpan(Math.Min(context.Length, tokens.Count), tokens.Count));
    }

    // The turns are taken from one growing text, so that the sample is exactly what the template makes of the conversation. What follows
    // an answer must begin with the end token; that token is the answer's, and trained on.
    private void TokenizeAllTurns(SftRecord record, List<int> tokens, List<TokenSpan> loss)
    {
        var messages = record.ToMessages();
        var last = LastAssistant(messages);
        var taken = "";
        for (var turn = 0; turn <= last; turn++)
        {
            if (!messages[turn].IsAssistant)
            {
                continue;
            }

            var prompt = _renderChat!([.. messages.Take(turn)], true);
            if (!prompt.StartsWith(taken, StringComparison.Ordinal))
            {
                throw new InvalidInputException(
                    $"record {record.Id}: the chat template renders earlier answers differently later on; train on the last turn only");
            }

            var context = _encode(prompt[taken.Length..]);
            tokens.AddRange(context);
            if (loss.Count > 0)
            {
                if (context.Length == 0 || context[0] != _endToken)
                {
                    throw new InvalidInputException(
                        $"record {record.Id}: the chat template does not close an answer with the end token {_endToken}; train on the last turn only");
                }

                loss[^1] = loss[^1] with { End = loss[^1].End + 1 };
            }

            var start = tokens.Count;
            tokens.AddRange(_encode(messages[turn].Content));
            loss.Add(new TokenSpan(start, tokens.Count));
            taken = prompt + messages[turn].Content;
        }

        tokens.Add(_endToken);
        loss[^1] = loss[^1] with { End = tokens.Count };
    }

    private static int LastAssistant(IReadOnlyList<ChatMessage> messages)
    {
        var last = messages.Count - 1;
        while (last >= 0 && !messages[last].IsAssistant)
        {
            last--;
        }

        return last >= 0 ? last : throw new ArgumentException("no assistant turn: the record has not been through RecordFilter", nameof(messages));
    }

    private static TokenSpan[] Clip(List<TokenSpan> loss, int length) =>
        [.. loss.Where(span => span.Start < length).Select(span => span with { End = Math.Min(span.End, length) })];

    private bool EndsEarly(List<int> tokens, List<TokenSpan> loss)
    {
        foreach (var (start, end) in loss)
        {
            for (var i = start; i < end - 1; i++)
            {
                if (tokens[i] == _endToken)
                {
                    return true;
                }
            }
        }

        return false;
    }
}
