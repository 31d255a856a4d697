using System.Net;
using System.Net.Sockets;

namespace Z1Coder.Runtime;

/// <summary>
/// Where the ranks of a job meet over TCP, before and beside their collectives. Rank 0 hosts it at a host and port known to all. It checks
/// that the
/// right ranks came with the same fingerprint, passes small values around, notices a rank that dies, and gathers what every rank was doing
/// when one
/// of them times out. One per process; every backend whose ranks are processes is built on it.
/// </summary>
/// <remarks>
/// For a backend: <see cref="Put"/> and <see cref="Get"/> carry the unique id of a communicator from one rank to the others,
/// <see cref="Exchange"/> an address
/// from each to all. As a <see cref="CollectiveMonitor"/> it watches the groups' rings and carries the first failure to every rank. Dispose
/// it
/// last: a connection that drops without that is a dead rank, which ends the job on all ranks with "rank 2 (host, pid) died".
/// </remarks>
public sealed class Rendezvous : CollectiveMonitor
{
    private static readonly TimeSpan s_diagnosis = TimeSpan.FromSeconds(5), s_retry = TimeSpan.FromMilliseconds(50);

    private readonly RendezvousServer? _server;
    private readonly Socket _socket;
    private readonly NetworkStream _stream;
    private readonly Thread _reader;
    private readonly string[] _wheres;
    private readonly Lock _sending = new();
    private readonly object _gate = new();
    private readonly Dictionary<long, byte[][]?> _answers = [];
    private long _requests;
    private volatile bool _leaving;

    private Rendezvous(
        RendezvousServer? server, Socket socket, NetworkStream stream, string host, int rank, string[] wheres, CollectiveOptions options)
        : base(rank, wheres.Length, options)
    {
        (_server, _socket, _stream, _wheres) = (server, socket, stream, wheres);
        Address = rank == 0 ? host : ((IPEndPoint)socket.LocalEndPoint!).Address.ToString();
        _reader = new Thread(Read, 256 << 10) { IsBackground = true, Name = $"z1 rendezvous {rank}" };
        _reader.Start();
    }

    /// <summary>A name or number by which the other ranks reach this machine: for rank 0 the host that all were given, otherwise the
    /// address that leads
    /// from here to rank 0.</summary>
    public string Address { get; }

    /// <inheritdoc/>
    private protected override string Where => _wheres[Rank];

    /// <inheritdoc/>
    private protected override string DescribeRank(int rank) => $" ({_wheres[rank]})";

    /// <summary>Joins, and returns when all ranks have.</summary>
    /// <param name="host">of rank 0; a loopback name or address keeps the rendezvous to this machine</param>
    /// <param name="port">where rank 0 listens</param>
    /// <param name="rank">this process</param>
    /// <param name="size">processes in all</param>
    /// <param name="fingerprint">must be the same everywhere: version and recipe</param>
    /// <param name="options">time-outs; the defaults if null</param>
    /// <exception cref="CollectiveException">one sentence: a rank is missing, came twice, was told another size, or brought another
    /// fingerprint</exception>
    public static Rendezvous Join(string host, int port, int rank, int size, string fingerprint, CollectiveOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(host);
        ArgumentNullException.ThrowIfNull(fingerprint);
        ArgumentOutOfRangeException.ThrowIfLessThan(size, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(rank);
        options ??= new CollectiveOptions();
        return Join(rank == 0 ? new RendezvousServer(host, port, size, fingerprint, options) : null,
            host, port, rank, size, fingerprint, options);
    }

    /// <summary>As above; rank 0 brings the server.</summary>
    internal static Rendezvous Join(
        RendezvousServer? server, string host, int port, int rank, int size, string fingerprint, CollectiveOptions options)
    {
        Socket? socket = null;
        try
        {
            var deadline = options.JoinTimeout > TimeSpan.Zero ? DateTime.UtcNow + options.JoinTimeout : DateTime.MaxValue;
            socket = Connect(server is null ? host : "", server?.Port ?? port, rank, deadline, options);
            var stream = new NetworkStream(socket, ownsSocket: true);
            var where = $"{Environment.MachineName}, pid {Environment.ProcessId}";
            socket.Send(RendezvousWire.Frame(RendezvousMessage.Hello, w =>
            {
                w.WriteMark(RendezvousWire.Mark);
                w.Write(rank);
                w.Write(size);
                w.Write(fingerprint);
                w.Write(where);
            }));
            return new(server, socket, stream, host, rank, AwaitWelcome(socket, stream, rank, size, options), options);
        }
        catch (Exception e)
        {
            socket?.Dispose();
            server?.Dispose();
            if (e is CollectiveException)
            {
                throw;
            }

            throw new CollectiveException($"rank {rank} cannot join the rendezvous at {host}:{port}: {e.Message}", e);
        }
    }

    /// <summary>Host and process of a rank, in words.</summary>
    public string Describe(int rank) => _wheres[rank];

    /// <summary>Leaves <paramref name="value"/> under <paramref name="key"/> for every rank that asks.</summary>
    public void Put(string key, ReadOnlySpan<byte> value)
    {
        var copy = value.ToArray();
        Send(RendezvousWire.Frame(RendezvousMessage.Put, w =>
        {
            w.Write(key);
            w.WriteBytes(copy);
        }));
    }

    /// <summary>The value under <paramref name="key"/>, as soon as a rank has put it.</summary>
    /// <exception cref="CollectiveException">none did within <see cref="CollectiveOptions.JoinTimeout"/>, or the job has failed</exception>
    public byte[] Get(string key) => Request(RendezvousMessage.Get, w => w.Write(key))[0];

    /// <summary>The values that the ranks brought under <paramref name="key"/>, in the order of the ranks; every rank calls it. A key may
    /// be used
    /// again once all have returned.</summary>
    /// <exception cref="CollectiveException">a rank did not within <see cref="CollectiveOptions.JoinTimeout"/> and is named, or the job has
    /// failed</exception>
    public byte[][] Exchange(string key, ReadOnlySpan<byte> value)
    {
        var copy = value.ToArray();
        return Request(RendezvousMessage.Exchange, w =>
        {
            w.Write(key);
            w.WriteBytes(copy);
        });
    }

    /// <inheritdoc/>
    private protected override string TellOthers(string reason)
    {
        if (_server is not null)
        {
            _server.Fail(reason);                       // at once: this process may be about to end
        }
        else
        {
            Send(RendezvousWire.Frame(RendezvousMessage.Abort, w => w.Write(reason)));
        }

        return reason;
    }

    /// <inheritdoc/>
    private protected override void OnTimeout(string sentence)
    {
        Send(RendezvousWire.Frame(RendezvousMessage.TimedOut, Report().Write));
        lock (_gate)
        {
            var deadline = DateTime.UtcNow + s_diagnosis;
            while (Failure is null && DateTime.UtcNow < deadline)
            {
                Monitor.Wait(_gate, 100);
            }
        }

        Abort($"{sentence}, and the rendezvous of rank 0 ({_wheres[0]}) does not answer");
    }

    /// <inheritdoc/>
    private protected override void OnFailure()
    {
        lock (_gate)
        {
            Monitor.PulseAll(_gate);
        }
    }

    /// <inheritdoc/>
    private protected override void Dispose(bool disposing)
    {
        _leaving = true;
        Send(RendezvousWire.Frame(RendezvousMessage.Goodbye));
        try
        {
            _socket.Shutdown(SocketShutdown.Both);
        }
        catch (SocketException)
        {
            // the other side was quicker
        }

        _reader.Join();
        _stream.Dispose();
        _server?.Dispose();
    }

    private static Socket Connect(string host, int port, int rank, DateTime deadline, CollectiveOptions options)
    {
        while (true)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                if (host.Length == 0)
                {
                    socket.Connect(IPAddress.Loopback, port);
                }
                else
                {
                    socket.Connect(host, port);
                }

                RendezvousWire.Prepare(socket);
                return socket;
            }
            catch (SocketException e)
            {
                socket.Dispose();
                if (DateTime.UtcNow >= deadline)
                {
                    throw new CollectiveException(
                        $"rank {rank} found no rendezvous at {host}:{port} within {options.JoinTimeout.TotalSeconds:G4} s "
                            + $"({e.Message}): rank 0 did not start it", e);
                }

                Thread.Sleep(s_retry);
            }
        }
    }

    private static string[] AwaitWelcome(Socket socket, NetworkStream stream, int rank, int size, CollectiveOptions options)
    {
        // the server names who is missing; a server that says nothing for longer is gone
        socket.ReceiveTimeout = options.JoinTimeout > TimeSpan.Zero
            ? (int)Math.Min((options.JoinTimeout + s_diagnosis).TotalMilliseconds, int.MaxValue) : 0;
        if (RendezvousWire.Read(stream) is not { } frame)
        {
            throw new CollectiveException($"rank {rank} lost the rendezvous of rank 0 before all ranks had joined");
        }

        socket.ReceiveTimeout = 0;
        var (kind, body) = RendezvousWire.Open(frame);
        return kind switch
        {
            RendezvousMessage.Welcome => [.. Enumerable.Range(0, size).Select(_ => body.ReadString())],
            RendezvousMessage.Abort => throw new CollectiveException(body.ReadString()),
            _ => throw new CollectiveException($"rank {rank} found something else than a rendezvous (message {(byte)kind})"),
        };
    }

    private byte[][] Request(RendezvousMessage kind, Action<BinaryWriter> body)
    {
        long id;
        lock (_gate)
        {
            id = ++_requests;
            _answers.Add(id, null);
        }

        Send(RendezvousWire.Frame(kind, w =>
        {
            w.Write(id);
            body(w);
        }));
        lock (_gate)
        {
            byte[][]? answer;
            while ((answer = _answers[id]) is null)
            {
                ThrowIfFailed();
                if (_leaving)
                {
                    throw new CollectiveException($"rank {Rank} has left the rendezvous");
                }

                Monitor.Wait(_gate);
            }

            _answers.Remove(id);
            return answer;
        }
    }

    private void Send(byte[] frame)
    {
        lock (_sending)
        {
            try
            {
                for (var sent = 0; sent < frame.Length;)
                {
                    sent += _socket.Send(frame.AsSpan(sent));
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // the reader sees the same and names it
            }
        }
    }

    private void Read()
    {
        try
        {
            ReadFrames();
        }
        catch (Exception e)
        {
            Fail($"rank {Rank} got what is no message of a rendezvous: {e.Message}");
        }

        OnFailure();
    }

    private void ReadFrames()
    {
        while (RendezvousWire.Read(_stream) is { } frame)
        {
            var (kind, body) = RendezvousWire.Open(frame);
            switch (kind)
            {
                case RendezvousMessage.Value:
                    Answer(body.ReadInt64(), [body.ReadBytes()]);
                    break;
                case RendezvousMessage.Values:
                    Answer(body.ReadInt64(), [.. Enumerable.Range(0, Size).Select(_ => body.ReadBytes())]);
                    break;
                case RendezvousMessage.Abort:
                    Fail(body.ReadString());
                    break;
                case RendezvousMessage.Collect:
                    Dump("another rank has timed out");
                    Send(RendezvousWire.Frame(RendezvousMessage.Report, Report().Write));
                    break;
                case RendezvousMessage.Goodbye:
                    _leaving = true;                    // rank 0 has ended in order; what others still do is theirs
                    HasLeft(0);
                    break;
                case RendezvousMessage.Left:
                    HasLeft(body.ReadInt32());
                    break;
            }
        }

        if (!_leaving)
        {
            Fail($"rank 0 ({_wheres[0]}) died");
        }
    }

    private void Answer(long id, byte[][] values)
    {
        lock (_gate)
        {
            _answers[id] = values;
            Monitor.PulseAll(_gate);
        }
    }
}
