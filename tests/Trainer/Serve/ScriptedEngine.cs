using System.Collections.Concurrent;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Tests.Trainer.Serve;

/// <summary>An engine whose sequences write "w0 w1 w2 …", one word a step; a test holds it, breaks it, and sees what was asked.</summary>
internal sealed class ScriptedEngine : DecodeEngine
{
    private readonly ConcurrentQueue<DecodeRequest> _arrived = new();
    private readonly List<(DecodeRequest Request, List<string> Words)> _active = [];
    private volatile int _running;
    private long _tokens;

    public ConcurrentQueue<DecodeRequest> Asked { get; } = new();

    /// <summary>Words that may be written in all; a step beyond it waits a millisecond and writes none.</summary>
    public int Allowed = int.MaxValue;

    public volatile Exception? Breaks;

    public volatile int Cancelled;

    public override int Capacity => 64;

    public override DecodeStats Stats => new(_arrived.Count, _running, _running, 8, 5, 2, Volatile.Read(ref _tokens), 0);

    public override void Submit(DecodeRequest request)
    {
        if (request.Prompt[0] == 7)
        {
            throw new InvalidInputException("the scripted engine dislikes token 7");
        }

        Asked.Enqueue(request);
        _arrived.Enqueue(request);
    }

    public override bool Step()
    {
        while (_arrived.TryDequeue(out var request))
        {
            _active.Add((request, []));
        }

        _running = _active.Count;
        if (Breaks is { } e && _active.Count > 0)
        {
            throw e;
        }

        foreach (var sequence in _active.ToList())
        {
            var (request, words) = sequence;
            if (request.Cancellation.IsCancellationRequested)
            {
                Interlocked.Increment(ref Cancelled);
                End(sequence, FinishReason.Cancelled);
            }
            else if (Volatile.Read(ref Allowed) > 0)
            {
                Interlocked.Decrement(ref Allowed);
                words.Add($"w{words.Count} ");
                _tokens++;
                request.Updated!(new DecodeUpdate(words[^1], words.Count, null));
                if (words.Count == request.Options.MaxNewTokens || words.Count == 10)
                {
                    End(sequence, words.Count == 10 ? FinishReason.EndToken : FinishReason.Length);
                }
            }
            else
            {
                Thread.Sleep(1);
            }
        }

        return _active.Count > 0;
    }

    protected override void Dispose(bool disposing)
    {
    }

    private void End((DecodeRequest Request, List<string> Words) sequence, FinishReason reason)
    {
        _active.Remove(sequence);
        _running = _active.Count;
        sequence.Request.Updated!(new DecodeUpdate(
            "", sequence.Words.Count, new Completion([.. sequence.Words.Select((_, i) => i)], string.Concat(sequence.Words), reason, 2)));
    }
}
