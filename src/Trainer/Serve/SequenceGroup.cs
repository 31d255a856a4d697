using System.Diagnostics.CodeAnalysis;
using System.Threading.Channels;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>The sequences of one request: what the engine says of them, in order, and the way to end them.</summary>
[SuppressMessage("Design", "CA1001", Justification = "the engine may look at the token late; without a timer its source holds nothing")]
public sealed class SequenceGroup
{
    // Bounded by what its sequences may write; the engine must not wait for a slow reader.
    private readonly Channel<(int Index, DecodeUpdate Update)> _updates = Channel.CreateUnbounded<(int, DecodeUpdate)>();

    private readonly CancellationTokenSource _cancel = new();
    private int _left;

    /// <summary>A group of so many sequences.</summary>
    public SequenceGroup(int count) => _left = count;

    /// <summary>Ends when every sequence has; throws when the engine failed.</summary>
    public IAsyncEnumerable<(int Index, DecodeUpdate Update)> Updates => _updates.Reader.ReadAllAsync();

    internal CancellationToken Cancellation => _cancel.Token;

    /// <summary>Ends the sequences at the engine's next step.</summary>
    public void Cancel() => _cancel.Cancel();

    internal void Write(int index, DecodeUpdate update) => _updates.Writer.TryWrite((index, update));

    internal void Fail(Exception reason) => _updates.Writer.TryComplete(reason);

    /// <summary>Called under the loop's lock; true when none is left.</summary>
    internal bool End(int count)
    {
        _left -= count;
        return _left == 0 && (_updates.Writer.TryComplete() || true);
    }
}
