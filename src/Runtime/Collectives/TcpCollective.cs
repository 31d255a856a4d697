using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>Ranks that are processes, connected each with each by sockets: TCP between machines, Unix sockets within one. Needs no library.
/// Linux.</summary>
public sealed unsafe class TcpCollective : HostCollective
{
    private const int Tries = 8;                        // rounds over the sockets before the thread sleeps in poll
    private const int PollMilliseconds = 200;
    private const int MostAtOnce = 1 << 20;             // bytes of one system call, so that sends and receives take turns

    private static readonly TimeSpan s_reason = TimeSpan.FromSeconds(2);

    private readonly TcpMesh _mesh;
    private readonly bool _ownsMesh;
    private readonly Socket?[] _sockets;
    private readonly int[] _descriptors, _worldRanks;
    private readonly long[] _out, _in;
    private readonly Posix.PollDescriptor[] _polled;

    private TcpCollective(TcpMesh mesh, Socket?[] sockets, int rank, int[] worldRanks, string name, bool ownsMesh)
        : base(rank, worldRanks, name, mesh.Rendezvous)
    {
        (_mesh, _sockets, _worldRanks, _ownsMesh) = (mesh, sockets, worldRanks, ownsMesh);
        _descriptors = [.. sockets.Select(s => s is null ? -1 : (int)s.Handle)];
        _out = new long[Size];
        _in = new long[Size];
        _polled = GC.AllocateArray<Posix.PollDescriptor>(Size, pinned: true);
    }

    /// <inheritdoc/>
    public override string Backend => "tcp";

    /// <summary>The group of all ranks that joined <paramref name="rendezvous"/>; each of them calls it. The rendezvous is disposed after
    /// it, by the
    /// caller.</summary>
    /// <exception cref="CollectiveException">a rank cannot be reached; it is named</exception>
    public static TcpCollective Create(Rendezvous rendezvous)
    {
        ArgumentNullException.ThrowIfNull(rendezvous);
        if (!OperatingSystem.IsLinux())
        {
            throw new NotSupportedException("the tcp backend runs on Linux");
        }

        var mesh = new TcpMesh(rendezvous);
        try
        {
            var worldRanks = Enumerable.Range(0, rendezvous.Size).ToArray();
            var sockets = mesh.Connect(CollectiveRecord.World, worldRanks, rendezvous.Rank);
            return new(mesh, sockets, rendezvous.Rank, worldRanks, CollectiveRecord.World, ownsMesh: true);
        }
        catch
        {
            mesh.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    private protected override void Exchange(ReadOnlySpan<ExchangePart> sent, ReadOnlySpan<ExchangePart> received)
    {
        var pending = 0;
        for (var r = 0; r < Size; r++)
        {
            _out[r] = _in[r] = 0;
            pending += (sent[r].Bytes > 0 ? 1 : 0) + (received[r].Bytes > 0 ? 1 : 0);
        }

        var idle = 0;
        while (pending > 0)
        {
            var moved = false;
            for (var step = 1; step < Size; step++)
            {
                var (to, from) = ((Rank + step) % Size, (Rank - step + Size) % Size);
                if (_out[to] < sent[to].Bytes && Send(to, sent[to]))
                {
                    moved = true;
                    pending -= _out[to] == sent[to].Bytes ? 1 : 0;
                }

                if (_in[from] < received[from].Bytes && Receive(from, received[from]))
                {
                    moved = true;
                    pending -= _in[from] == received[from].Bytes ? 1 : 0;
                }
            }

            idle = moved ? 0 : idle + 1;
            if (idle >= Tries)
            {
                _mesh.Rendezvous.ThrowIfFailed();
                Poll(sent, received);
            }
        }
    }

    /// <inheritdoc/>
    private protected override void Interrupt()
    {
        foreach (var socket in _sockets ?? [])
        {
            try
            {
                socket?.Shutdown(SocketShutdown.Both);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // the peer was quicker
            }
        }
    }

    /// <inheritdoc/>
    private protected override HostCollective CreateGroup(int[] members, int rank, string name, string path, int[] worldRanks) =>
        new TcpCollective(_mesh, _mesh.Connect(path, worldRanks, rank), rank, worldRanks, name, ownsMesh: false);

    /// <inheritdoc/>
    private protected override void Close()
    {
        foreach (var socket in _sockets)
        {
            socket?.Dispose();
        }

        if (_ownsMesh)
        {
            _mesh.Dispose();
        }
    }

    private bool Send(int peer, ExchangePart part)
    {
        var count = Posix.send(
            _descriptors[peer], part.Pointer + _out[peer], (nuint)Math.Min(part.Bytes - _out[peer], MostAtOnce),
            Posix.DoNotWait | Posix.NoSignal);
        if (count < 0)
        {
            return Wait(peer);
        }

        _out[peer] += count;
        return true;
    }

    private bool Receive(int peer, ExchangePart part)
    {
        var count = Posix.recv(
            _descriptors[peer], part.Pointer + _in[peer], (nuint)Math.Min(part.Bytes - _in[peer], MostAtOnce), Posix.DoNotWait);
        if (count < 0)
        {
            return Wait(peer);
        }

        if (count == 0)
        {
            ThrowGone(peer, "closed its connection");
        }

        _in[peer] += count;
        return true;
    }

    /// <summary>False where the socket is not ready; otherwise the peer is gone.</summary>
    private bool Wait(int peer)
    {
        var error = Marshal.GetLastPInvokeError();
        if (error is not (Posix.WouldBlock or Posix.Interrupted))
        {
            ThrowGone(peer, $"broke its connection (error {error})");
        }

        return false;
    }

    /// <summary>Who it was and why comes from the rendezvous a moment later, for all ranks alike; only without it the socket's own sentence
    /// is used.</summary>
    private void ThrowGone(int peer, string what)
    {
        var deadline = DateTime.UtcNow + s_reason;
        while (DateTime.UtcNow < deadline)
        {
            _mesh.Rendezvous.ThrowIfFailed();
            if (_mesh.Rendezvous.IsGone(_worldRanks[peer]))
            {
                what = "has left";
                break;
            }

            Thread.Sleep(5);
        }

        throw new CollectiveException(
            $"rank {_worldRanks[peer]} ({_mesh.Rendezvous.Describe(_worldRanks[peer])}) {what}, and rank {_worldRanks[Rank]} waits for it");
    }

    private void Poll(ReadOnlySpan<ExchangePart> sent, ReadOnlySpan<ExchangePart> received)
    {
        var count = 0;
        for (var r = 0; r < Size; r++)
        {
            var events = (short)((_out[r] < sent[r].Bytes ? Posix.PollOut : 0) | (_in[r] < received[r].Bytes ? Posix.PollIn : 0));
            if (events != 0)
            {
                _polled[count++] = new() { Descriptor = _descriptors[r], Events = events };
            }
        }

        fixed (Posix.PollDescriptor* first = _polled)
        {
            _ = Posix.poll(first, (nuint)count, PollMilliseconds);
        }
    }
}
