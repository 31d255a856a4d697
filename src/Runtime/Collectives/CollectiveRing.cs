using System.Diagnostics;

namespace Z1Coder.Runtime;

/// <summary>
/// The recent operations of one group on this rank: what a watchdog looks at and a dump shows. The caller of an operation queues it,
/// whoever runs
/// it starts and finishes it, in the order of the sequence numbers; any thread may look.
/// </summary>
/// <remarks>Made by <see cref="CollectiveMonitor.Register"/>. No call but the ones that show the ring allocates.</remarks>
internal sealed class CollectiveRing
{
    private readonly Lock _gate = new();
    private readonly Slot[] _slots;
    private long _last, _started, _finished;

    public CollectiveRing(string group, int size)
    {
        Group = group;
        _slots = new Slot[Math.Max(size, 1)];
    }

    /// <summary>The name of the group, for messages.</summary>
    public string Group { get; }

    /// <summary>The call was made; <paramref name="sequence"/> is one more than the last.</summary>
    public void Queue(long sequence, CollectiveOperation operation, long count, byte element, int root = -1)
    {
        var now = Stopwatch.GetTimestamp();
        lock (_gate)
        {
            _slots[sequence % _slots.Length] =
                new() { Sequence = sequence, Operation = operation, Count = count, Element = element, Root = root, Changed = now };
            _last = sequence;
        }
    }

    /// <summary>It has begun: from here on its time counts.</summary>
    public void Start(long sequence)
    {
        var now = Stopwatch.GetTimestamp();
        lock (_gate)
        {
            _started = Math.Max(_started, sequence);
            Change(sequence, CollectiveState.Running, now);
        }
    }

    /// <summary>It and all before it have finished.</summary>
    public void Finish(long sequence)
    {
        var now = Stopwatch.GetTimestamp();
        lock (_gate)
        {
            for (var i = Math.Max(_finished + 1, sequence - _slots.Length + 1); i <= sequence; i++)
            {
                Change(i, CollectiveState.Done, now);
            }

            _finished = Math.Max(_finished, sequence);
        }
    }

    /// <summary>The oldest operation that has begun and not finished.</summary>
    public bool TryGetRunning(out CollectiveRecord record)
    {
        var now = Stopwatch.GetTimestamp();
        lock (_gate)
        {
            ref var slot = ref _slots[(_finished + 1) % _slots.Length];
            var found = _started > _finished && slot.Sequence == _finished + 1;
            record = found ? Record(slot, now) : default;
            return found;
        }
    }

    /// <summary>The latest operations, oldest first, at most <paramref name="most"/>; where more are outstanding, the oldest of
    /// these and as many finished ones before them.</summary>
    public CollectiveRecord[] Tail(int most)
    {
        var now = Stopwatch.GetTimestamp();
        var records = new List<CollectiveRecord>();
        lock (_gate)
        {
            var first = Math.Min(_last - most, _finished - (most / 2)) + 1;
            first = Math.Max(first, Math.Max(1, _last - _slots.Length + 1));
            for (var i = first; i <= _last && records.Count < most; i++)
            {
                if (_slots[i % _slots.Length] is { } slot && slot.Sequence == i)
                {
                    records.Add(Record(slot, now));
                }
            }
        }

        return [.. records];
    }

    private void Change(long sequence, CollectiveState state, long now)
    {
        ref var slot = ref _slots[sequence % _slots.Length];
        if (slot.Sequence == sequence)
        {
            (slot.State, slot.Changed) = (state, now);
        }
    }

    private CollectiveRecord Record(in Slot slot, long now) => new(
        Group, slot.Sequence, slot.Operation, slot.Count, slot.Element, slot.Root, slot.State,
        (now - slot.Changed) / (double)Stopwatch.Frequency);

    private struct Slot
    {
        public long Sequence, Count, Changed;
        public int Root;
        public CollectiveOperation Operation;
        public CollectiveState State;
        public byte Element;
    }
}
