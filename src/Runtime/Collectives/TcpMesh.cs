using System.Buffers.Binary;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace Z1Coder.Runtime;

/// <summary>
/// How one rank is reached by its peers and reaches them: a listener whose address all ranks know. Ranks of one machine are connected by
/// Unix
/// sockets (abstract names, which leave no file), others by TCP.
/// </summary>
internal sealed class TcpMesh : IDisposable
{
    private const long Magic = 0x5A31_4D45_5348_3031;
    private const int MostHelloMilliseconds = 5000;

    private const int CookieBytes = 16, HelloBytes = 8 + CookieBytes + 8 + 4;

    private const int UnixBuffer = 512 << 10;           // bytes; the default of about 200 KiB makes two processes take turns too often

    private static readonly TimeSpan s_slice = TimeSpan.FromMilliseconds(50);

    private readonly Lock _gate = new();
    private readonly Socket _tcp;
    private readonly Socket? _unix;
    private readonly Peer[] _peers;
    private readonly byte[] _cookie;
    private readonly Dictionary<(long Group, int Rank), Socket> _early = [];

    /// <summary>Listens, and swaps addresses with all ranks of the job; every rank makes one.</summary>
    public TcpMesh(Rendezvous rendezvous)
    {
        Rendezvous = rendezvous;
        var loopback = IPAddress.TryParse(rendezvous.Address, out var own) ? IPAddress.IsLoopback(own) : rendezvous.Address == "localhost";
        _tcp = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            _tcp.Bind(new IPEndPoint(loopback ? IPAddress.Loopback : IPAddress.Any, 0));
            _tcp.Listen(1024);
            var name = "";
            if (MachineId() is { Length: > 0 } machine)
            {
                name = $"\0z1-{Guid.NewGuid():N}";
                _unix = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                _unix.Bind(new UnixDomainSocketEndPoint(name));
                _unix.Listen(1024);
            }
            else
            {
                machine = "";
            }

            _cookie = RandomNumberGenerator.GetBytes(CookieBytes);
            var peer = new Peer(rendezvous.Address, ((IPEndPoint)_tcp.LocalEndPoint!).Port, machine, name, _cookie);
            _peers = [.. rendezvous.Exchange("tcp mesh", peer.ToBytes()).Select(Peer.Read)];
            _cookie = _peers[0].Cookie;                 // one for the job: a stray process of another one does not get in
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Rendezvous Rendezvous { get; }

    /// <summary>A socket to each other member of a group: to lower ranks by calling them, from higher ones by being called.</summary>
    /// <param name="path">of the group, for the job</param>
    /// <param name="worldRanks">its members</param>
    /// <param name="rank">this rank among them</param>
    public Socket?[] Connect(string path, int[] worldRanks, int rank)
    {
        var group = BinaryPrimitives.ReadInt64LittleEndian(SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(path)));
        var timeout = Rendezvous.Options.JoinTimeout;
        var deadline = timeout > TimeSpan.Zero ? DateTime.UtcNow + timeout : DateTime.MaxValue;
        var sockets = new Socket?[worldRanks.Length];
        try
        {
            for (var peer = 0; peer < rank; peer++)
            {
                sockets[peer] = Call(worldRanks[peer], group, deadline);
            }

            for (var peer = rank + 1; peer < worldRanks.Length; peer++)
            {
                sockets[peer] = Take(group, worldRanks[peer], deadline);
            }

            return sockets;
        }
        catch
        {
            foreach (var socket in sockets)
            {
                socket?.Dispose();
            }

            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _tcp.Dispose();
        _unix?.Dispose();
        foreach (var socket in _early.Values)
        {
            socket.Dispose();
        }
    }

    /// <summary>Differs between machines, and between boots of one; empty where the system does not say.</summary>
    private static string MachineId()
    {
        const string boot = "/proc/sys/kernel/random/boot_id";
        return File.Exists(boot) ? $"{File.ReadAllText(boot).Trim()} {Environment.MachineName}" : "";
    }

    private static void Prepare(Socket socket)
    {
        if (socket.AddressFamily == AddressFamily.Unix)
        {
            socket.SendBufferSize = UnixBuffer;         // what is sent counts against the sender's buffer alone
            return;
        }

        RendezvousWire.Prepare(socket);                 // the system sizes the buffers of TCP by what it sees
    }

    private Socket Call(int worldRank, long group, DateTime deadline)
    {
        var peer = _peers[worldRank];
        Socket? socket = null;
        if (_unix is not null && peer.Machine == _peers[Rendezvous.Rank].Machine)
        {
            socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                socket.Connect(new UnixDomainSocketEndPoint(peer.UnixName));
            }
            catch (SocketException)
            {
                socket.Dispose();                       // one kernel, but another network namespace
                socket = null;
            }
        }

        socket ??= CallTcp(worldRank, peer, deadline);
        Prepare(socket);
        var hello = new byte[HelloBytes];
        BinaryPrimitives.WriteInt64LittleEndian(hello, Magic);
        _cookie.CopyTo(hello, 8);
        BinaryPrimitives.WriteInt64LittleEndian(hello.AsSpan(8 + CookieBytes), group);
        BinaryPrimitives.WriteInt32LittleEndian(hello.AsSpan(16 + CookieBytes), Rendezvous.Rank);
        socket.Send(hello);
        return socket;
    }

    private Socket CallTcp(int worldRank, Peer peer, DateTime deadline)
    {
        while (true)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                var connecting = socket.ConnectAsync(peer.Host, peer.Port);
                while (!connecting.Wait(s_slice))
                {
                    Rendezvous.ThrowIfFailed();
                    if (DateTime.UtcNow >= deadline)
                    {
                        throw new CollectiveException(
                            $"rank {Rendezvous.Rank} cannot reach rank {worldRank} ({Rendezvous.Describe(worldRank)}) "
                                + $"at {peer.Host}:{peer.Port}");
                    }
                }

                return socket;
            }
            catch (AggregateException e)
            {
                socket.Dispose();
                throw new CollectiveException(
                    $"rank {Rendezvous.Rank} cannot reach rank {worldRank} ({Rendezvous.Describe(worldRank)}) at {peer.Host}:{peer.Port}: "
                    + e.InnerException!.Message, e);
            }
            catch (CollectiveException)
            {
                socket.Dispose();
                throw;
            }
        }
    }

    /// <summary>The connection that a higher rank made, for this group; those that come for other groups are kept for them.</summary>
    private Socket Take(long group, int worldRank, DateTime deadline)
    {
        lock (_gate)
        {
            while (true)
            {
                if (_early.Remove((group, worldRank), out var found))
                {
                    return found;
                }

                Rendezvous.ThrowIfFailed();
                if (DateTime.UtcNow >= deadline)
                {
                    throw new CollectiveException(
                        $"rank {worldRank} ({Rendezvous.Describe(worldRank)}) "
                            + $"did not call rank {Rendezvous.Rank} within {Rendezvous.Options.JoinTimeout.TotalSeconds:G4} s");
                }

                var ready = new List<Socket> { _tcp };
                if (_unix is not null)
                {
                    ready.Add(_unix);
                }

                Socket.Select(ready, null, null, s_slice);
                foreach (var listener in ready)
                {
                    Accept(listener);
                }
            }
        }
    }

    private void Accept(Socket listener)
    {
        var socket = listener.Accept();
        var hello = new byte[HelloBytes];
        try
        {
            Prepare(socket);
            var patience = Stopwatch.StartNew();
            for (var got = 0; got < hello.Length;)
            {
                socket.ReceiveTimeout = (int)Math.Max(1, MostHelloMilliseconds - patience.ElapsedMilliseconds);      // of all bytes together
                var more = socket.Receive(hello.AsSpan(got));
                got = more > 0 ? got + more : throw new SocketException((int)SocketError.ConnectionReset);
            }

            if (BinaryPrimitives.ReadInt64LittleEndian(hello) != Magic
                || !CryptographicOperations.FixedTimeEquals(hello.AsSpan(8, CookieBytes), _cookie))
            {
                socket.Dispose();                       // not of this job
                return;
            }

            Prepare(socket);
            var key = (BinaryPrimitives.ReadInt64LittleEndian(hello.AsSpan(8 + CookieBytes)),
                BinaryPrimitives.ReadInt32LittleEndian(hello.AsSpan(16 + CookieBytes)));
            if (!_early.TryAdd(key, socket))
            {
                socket.Dispose();
            }
        }
        catch (SocketException)
        {
            socket.Dispose();
        }
    }

    private sealed record Peer(string Host, int Port, string Machine, string UnixName, byte[] Cookie)
    {
        public byte[] ToBytes()
        {
            using var memory = new MemoryStream();
            using var writer = new BinaryWriter(memory);
            writer.Write(Host);
            writer.Write(Port);
            writer.Write(Machine);
            writer.Write(UnixName);
            writer.Write(Cookie);
            writer.Flush();
            return memory.ToArray();
        }

        public static Peer Read(byte[] bytes)
        {
            using var reader = new BinaryReader(new MemoryStream(bytes));
            return new(reader.ReadString(), reader.ReadInt32(), reader.ReadString(), reader.ReadString(), reader.ReadBytes(CookieBytes));
        }
    }
}
