using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>An engine that answers one request a step with a text of the test's choice, and remembers what was asked.</summary>
internal sealed class AnsweringEngine(Func<DecodeRequest, int, string> answer, int capacity = 4096) : DecodeEngine
{
    private readonly Queue<DecodeRequest> _waiting = new();

    public List<DecodeRequest> Asked { get; } = [];

    public override int Capacity => capacity;

    public override DecodeStats Stats => new(_waiting.Count, 0, 0, 0, 0, 0, 0, 0);

    public override void Submit(DecodeRequest request)
    {
        if (request.Prompt.Length >= capacity)
        {
            throw new InvalidInputException("the prompt does not fit");
        }

        Asked.Add(request);
        _waiting.Enqueue(request);
    }

    public override bool Step()
    {
        if (_waiting.TryDequeue(out var request))
        {
            var text = answer(request, Asked.IndexOf(request));
            var cancelled = request.Cancellation.IsCancellationRequested;
            request.Updated!(new DecodeUpdate(
                text, text.Length, new Completion(new int[text.Length], text, cancelled ? FinishReason.Cancelled : FinishReason.EndToken)));
        }

        return _waiting.Count > 0;
    }

    protected override void Dispose(bool disposing)
    {
    }
}
