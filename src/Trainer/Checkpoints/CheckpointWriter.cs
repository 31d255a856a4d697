using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// Saves the shards of all ranks beside the steps. <see cref="Begin"/> copies this rank's part to host memory at a step boundary; a thread
/// writes, hashes and flushes it. <see cref="Poll"/>, at each later boundary, learns in one all-reduced value whether every rank has
/// finished; then rank 0 publishes, on its thread too. Every rank makes the same calls in the same order.
/// </summary>
/// <remarks>A rank that cannot write makes all ranks throw at the same boundary, after every thread has ended; the checkpoint is given up
/// and earlier ones are untouched. In place (not asynchronous) there is no copy: Begin returns when the checkpoint is published.</remarks>
public sealed class CheckpointWriter : IDisposable
{
    private const double Done = 0, Busy = 1, FailedOnRankZero = 2;      // 2 + r: failed on rank r

    private readonly CheckpointStore _store;
    private readonly ShardPart _part;
    private readonly IReadOnlyList<ShardRole> _roles;
    private readonly ICollective _world;
    private readonly string _fingerprint;
    private readonly Tensor<float>[][]? _copies;

    private CheckpointDraft? _draft;
    private Thread? _thread;
    private volatile Exception? _failure;
    private volatile bool _cancelled;
    private bool _publishing;

    /// <summary>Declares the host copy; takes no memory yet.</summary>
    /// <param name="store">where checkpoints lie; rank 0's removes what it no longer keeps</param>
    /// <param name="part">what this rank writes</param>
    /// <param name="roles">the state</param>
    /// <param name="world">all ranks</param>
    /// <param name="fingerprint">of the model</param>
    /// <param name="stream">whose tensors are copied; the copy is pinned for it</param>
    /// <param name="asynchronous">false writes in place and waits</param>
    public CheckpointWriter(
        CheckpointStore store, ShardPart part, IReadOnlyList<ShardRole> roles, ICollective world, string fingerprint, ComputeStream stream,
        bool asynchronous)
    {
        ArgumentNullException.ThrowIfNull(part);
        ArgumentNullException.ThrowIfNull(roles);
        (_store, _part, _roles, _world, _fingerprint) = (store, part, roles, world, fingerprint);
        if (asynchronous)
        {
            Copy = DeclareCopy(part, roles.Count, stream, out _copies);
        }
    }

    /// <summary>The host copy; null when written in place.</summary>
    public Arena? Copy { get; }

    /// <summary>Whether a save is under way; the same on all ranks.</summary>
    public bool IsPending => _draft is not null;

    /// <summary>The step last published or begun here, or set by whoever restored one; null before that.</summary>
    public long? LastStep { get; set; }

    /// <summary>The host copy of a part, declared for a plan.</summary>
    public static Arena DeclareCopy(ShardPart part, int roles, ComputeStream stream) => DeclareCopy(part, roles, stream, out _);

    /// <summary>Takes the memory.</summary>
    public void Allocate() => Copy?.Allocate();

    /// <summary>Starts to save the state as it is now; waits for an earlier save to be published. Afterwards the state may
    /// change.</summary>
    /// <param name="step">optimizer steps done</param>
    /// <param name="name">of one more file, which rank 0 writes</param>
    /// <param name="content">of that file</param>
    /// <returns>the steps published on the way: an earlier one that was pending, and this one when it is written in place</returns>
    /// <exception cref="InvalidInputException">on all ranks: one of them could not write</exception>
    public IReadOnlyList<long> Begin(long step, string name, byte[] content)
    {
        var published = new List<long>();
        if (Complete() is { } earlier)
        {
            published.Add(earlier);
        }

        var info = new CheckpointInfo(step, _world.Size, _fingerprint);
        _failure = null;
        if (_world.Rank == 0)
        {
            Attempt(() => _draft = _store.Begin(info));
        }

        Agree(_failure is null ? Done : FailedOnRankZero, step);       // the directory is there before anyone writes into it
        _draft ??= _store.Join(info, _world.Rank);
        LastStep = step;
        _publishing = false;
        CopyState();
        if (_copies is not null)
        {
            Start(() => Write(_draft, name, content));
            return published;
        }

        Attempt(() => Write(_draft, name, content));       // here, where a device's tensors can be read
        published.Add(Complete()!.Value);
        return published;
    }

    /// <summary>At a step boundary, on all ranks: goes on with a save that is under way. Costs one all-reduced value, and nothing without
    /// one.</summary>
    /// <returns>the step that has just been published on the medium; null for none</returns>
    /// <exception cref="InvalidInputException">on all ranks: one of them could not write</exception>
    public long? Poll()
    {
        if (_draft is not { } draft)
        {
            return null;
        }

        var busy = _thread is { IsAlive: true };
        if (Agree(_failure is not null && !busy ? FailedOnRankZero + _world.Rank : busy ? Busy : Done, draft.Info.Step) == Busy)
        {
            return null;
        }

        Join();
        if (!_publishing)
        {
            _publishing = true;
            if (_world.Rank == 0)
            {
                Start(() => _store.Publish(draft));
            }

            return null;
        }

        _draft = null;
        return draft.Info.Step;
    }

    /// <summary>Waits until a save that is under way is published; at the end, on a stop, and before anything that needs it. On all
    /// ranks.</summary>
    /// <returns>the step published; null when nothing was under way</returns>
    /// <exception cref="InvalidInputException">on all ranks: one of them could not write</exception>
    public long? Complete()
    {
        while (IsPending)
        {
            Join();
            if (Poll() is { } step)
            {
                return step;
            }
        }

        return null;
    }

    /// <summary>Ends the thread; a save that is under way is given up where it is.</summary>
    public void Dispose()
    {
        _cancelled = true;
        Join();
        Copy?.Dispose();
    }

    private static Arena DeclareCopy(ShardPart part, int roles, ComputeStream stream, out Tensor<float>[][] copies)
    {
        var arena = stream.CreateHostArena("checkpoint copy");
        copies = new Tensor<float>[roles][];
        for (var role = 0; role < roles; role++)
        {
            copies[role] = new Tensor<float>[part.Layout.Units.Count];
            for (var unit = 0; unit < copies[role].Length; unit++)
            {
                var (from, to) = part.Bounds(unit);
                copies[role][unit] = arena.Declare<float>(to - from);
            }
        }

        return arena;
    }

    /// <summary>The largest state of all ranks. When one has failed, all wait for their threads, rank 0 removes the draft, and all
    /// throw.</summary>
    private double Agree(double own, long step)
    {
        var agreed = AllReduce(own);
        if (agreed < FailedOnRankZero)
        {
            return agreed;
        }

        Join();
        _world.Barrier();
        var (failure, draft) = (_failure, _draft);
        (_failure, _draft) = (null, null);
        if (_world.Rank == 0 && draft is not null)
        {
            _store.Abandon(draft);
        }

        var what = $"cannot write the checkpoint of step {step}, earlier ones are untouched: ";
        throw failure switch
        {
            InvalidInputException foreseen => foreseen,
            null => new InvalidInputException($"{what}rank {agreed - FailedOnRankZero} could not write its part, its own message says why"),
            _ => new InvalidInputException($"{what}{failure.GetType().Name}: {failure.Message.ReplaceLineEndings(" ")}", failure),
        };
    }

    private double AllReduce(double own)
    {
        Span<double> values = [own];
        _world.AllReduce(values, Reduction.Max);
        return values[0];
    }

    private void CopyState()
    {
        for (var role = 0; role < _roles.Count && _copies is not null; role++)
        {
            for (var unit = 0; unit < _copies[role].Length; unit++)
            {
                var (from, to) = _part.Bounds(unit);
                if (to > from)
                {
                    _roles[role].Values.Units[unit].Rows(from, to - from).CopyTo(_copies[role][unit].Span);
                }
            }
        }
    }

    private void Write(CheckpointDraft draft, string name, byte[] content)
    {
        for (var role = 0; role < _roles.Count; role++)
        {
            var (copies, values) = (_copies?[role], _roles[role].Values);
            draft.Write(ShardRole.FileName(_roles[role].Name, _world.Rank, _world.Size), stream =>
            {
                var ranges = _part.Ranges().ToList();
                var writer = new SafetensorsWriter(stream, ranges.ConvertAll(r => new SafetensorInfo(r.Name, SafetensorDtype.F32,
                    r.Count)));
                foreach (var range in ranges)
                {
                    var view = copies is null
                        ? values.Units[range.Unit].Rows(range.ShardStart, range.Count)
                        : copies[range.Unit].Rows(range.ShardStart - _part.Bounds(range.Unit).From, range.Count);
                    HostPieces.Read(view, (_, piece) =>
                    {
                        if (_cancelled)
                        {
                            throw new OperationCanceledException("the run ended while a checkpoint was written");
                        }

                        writer.Write(range.Name, piece);
                    });
                }

                writer.Complete();
            });
        }

        if (draft.Rank == 0)
        {
            draft.Write(name, content);
        }
        else
        {
            draft.Finish();
        }
    }

    private void Start(Action work)
    {
        _thread = new Thread(() => Attempt(work)) { IsBackground = true, Name = "checkpoint" };
        _thread.Start();
    }

    private void Join()
    {
        _thread?.Join();
        _thread = null;
    }

    private void Attempt(Action work)
    {
        try
        {
            work();
        }
        catch (Exception e)
        {
            _failure = e;                 // told to all ranks at the next boundary, and thrown there
        }
    }
}
