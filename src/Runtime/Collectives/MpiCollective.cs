using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// Ranks that are processes of an MPI job (Open MPI or MPICH, found at run time): <see cref="HostCollective"/> over MPI_Isend and MPI_Irecv
/// between pairs of ranks, so sums are the same bits as over any other host backend. Groups are told apart by their tags.
/// </summary>
public sealed unsafe class MpiCollective : HostCollective
{
    private const int MostOfMessage = 1 << 30;                  // counts of MPI are int

    private readonly MpiWorld _world;
    private readonly CollectiveMonitor _monitor;
    private readonly int[] _worldRanks;
    private readonly int _tag;
    private nint* _requests;
    private int _room;

    private MpiCollective(MpiWorld world, CollectiveMonitor monitor, int rank, int[] worldRanks, string name, int tag)
        : base(rank, worldRanks, name, monitor)
    {
        (_world, _monitor, _worldRanks, _tag) = (world, monitor, worldRanks, tag);
    }

    /// <inheritdoc/>
    public override string Backend => "mpi";

    /// <summary>The group of all ranks of the job. Dispose it before <paramref name="rendezvous"/>.</summary>
    /// <exception cref="CollectiveException">MPI and rendezvous do not agree who this is</exception>
    public static MpiCollective Create(MpiWorld world, Rendezvous rendezvous)
    {
        ArgumentNullException.ThrowIfNull(world);
        ArgumentNullException.ThrowIfNull(rendezvous);
        world.Expect(rendezvous.Rank, rendezvous.Size);
        var worldRanks = Enumerable.Range(0, world.Size).ToArray();
        return new(world, rendezvous, world.Rank, worldRanks, CollectiveRecord.World, world.TakeTag(CollectiveRecord.World));
    }

    /// <inheritdoc/>
    private protected override void Exchange(ReadOnlySpan<ExchangePart> sent, ReadOnlySpan<ExchangePart> received)
    {
        var pending = 0;
        try
        {
            Reserve(sent, received);
            for (var step = 1; step < Size; step++)
            {
                var from = (Rank - step + Size) % Size;
                for (var done = 0L; done < received[from].Bytes; done += MostOfMessage)
                {
                    var bytes = (int)Math.Min(MostOfMessage, received[from].Bytes - done);
                    _world.Receive(received[from].Pointer + done, bytes, _worldRanks[from], _tag, _requests + pending++);
                }
            }

            for (var step = 1; step < Size; step++)
            {
                var to = (Rank + step) % Size;
                for (var done = 0L; done < sent[to].Bytes; done += MostOfMessage)
                {
                    var bytes = (int)Math.Min(MostOfMessage, sent[to].Bytes - done);
                    _world.Send(sent[to].Pointer + done, bytes, _worldRanks[to], _tag, _requests + pending++);
                }
            }

            for (var pause = new MpiPause(); (pending = _world.Test(_requests, pending)) > 0;)
            {
                _monitor.ThrowIfFailed();
                pause.Once();
            }
        }
        catch (MpiException e)
        {
            throw new CollectiveException($"rank {_worldRanks[Rank]}: {e.Message}", e);
        }
    }

    /// <summary>The thread looks at the failure between two looks at its messages.</summary>
    private protected override void Interrupt() => _world.Fail();

    /// <inheritdoc/>
    private protected override HostCollective CreateGroup(int[] members, int rank, string name, string path, int[] worldRanks) =>
        new MpiCollective(_world, _monitor, rank, worldRanks, name, _world.TakeTag(path));

    /// <inheritdoc/>
    private protected override void Close()
    {
        _world.ReturnTag(_tag);
        NativeMemory.Free(_requests);
        _requests = null;
    }

    private void Reserve(ReadOnlySpan<ExchangePart> sent, ReadOnlySpan<ExchangePart> received)
    {
        var needed = 0L;
        for (var r = 0; r < Size; r++)
        {
            needed += ((sent[r].Bytes + MostOfMessage - 1) / MostOfMessage) + ((received[r].Bytes + MostOfMessage - 1) / MostOfMessage);
        }

        if (needed > _room)
        {
            _room = checked((int)needed);
            _requests = (nint*)NativeMemory.Realloc(_requests, (nuint)_room * (nuint)sizeof(nint));
        }
    }
}
