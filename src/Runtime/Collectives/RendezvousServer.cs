using System.Net;
using System.Net.Sockets;

namespace Z1Coder.Runtime;

/// <summary>The side of the <see cref="Rendezvous"/> that rank 0 hosts: who has joined, values by key, who is alive, one diagnosis for
/// all.</summary>
internal sealed class RendezvousServer : IDisposable
{
    private static readonly TimeSpan s_hello = TimeSpan.FromSeconds(10), s_reports = TimeSpan.FromSeconds(2);

    private readonly Lock _gate = new();
    private readonly Lock _telling = new();             // rank 0, which hears of a failure first, leaves when all have been told
    private readonly Socket _listener;
    private readonly int _size;
    private readonly string _fingerprint;
    private readonly CollectiveOptions _options;
    private readonly CancellationTokenSource _stop = new();
    private readonly Member?[] _members;
    private readonly Dictionary<string, byte[]> _values = [];
    private readonly Dictionary<string, List<(Member Member, long Id)>> _awaited = [];
    private readonly Dictionary<string, (byte[] Value, long Id)?[]> _exchanges = [];
    private readonly TaskCompletionSource _allReported = new();
    private CollectiveReport?[]? _reports;
    private string? _failure;
    private int _joined;
    private volatile bool _leaving;

    /// <summary>Listens.</summary>
    /// <param name="host">where the ranks will look for it: a loopback name keeps it to this machine</param>
    /// <param name="port">0 takes any: see <see cref="Port"/></param>
    /// <param name="size">ranks to come</param>
    /// <param name="fingerprint">that each must bring</param>
    /// <param name="options">time-outs</param>
    /// <exception cref="CollectiveException">the port is taken</exception>
    public RendezvousServer(string host, int port, int size, string fingerprint, CollectiveOptions options)
    {
        (_size, _fingerprint, _options, _members) = (size, fingerprint, options, new Member?[size]);
        var loopback = host is "localhost" || (IPAddress.TryParse(host, out var address) && IPAddress.IsLoopback(address));
        _listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            _listener.Bind(new IPEndPoint(loopback ? IPAddress.Loopback : IPAddress.Any, port));
            _listener.Listen(1024);
        }
        catch (SocketException e)
        {
            _listener.Dispose();
            throw new CollectiveException($"rank 0 cannot listen at {host}:{port}: {e.Message}", e);
        }

        Port = ((IPEndPoint)_listener.LocalEndPoint!).Port;
        _ = AcceptAsync();
        _ = ExpectAllAsync();
    }

    /// <summary>Where it listens.</summary>
    public int Port { get; }

    /// <summary>Tells every rank that the job has failed, if this is the first failure.</summary>
    public void Fail(string reason)
    {
        lock (_telling)
        {
            Member?[] members;
            lock (_gate)
            {
                if (_failure is not null)
                {
                    return;
                }

                _failure = reason;
                members = [.. _members];
            }

            var frame = RendezvousWire.Frame(RendezvousMessage.Abort, w => w.Write(reason));
            foreach (var member in members)
            {
                member?.Send(frame);
            }
        }
    }

    /// <summary>Says goodbye to all who are still there: from now on nobody is watched.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_leaving)
            {
                return;
            }

            _leaving = true;
        }

        lock (_telling)
        {
            var frame = RendezvousWire.Frame(RendezvousMessage.Goodbye);
            foreach (var member in _members)
            {
                member?.Send(frame);
            }
        }

        _stop.Cancel();                                 // ends the readers, who close their connections
        _listener.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                var socket = await _listener.AcceptAsync(_stop.Token);
                RendezvousWire.Prepare(socket);
                _ = ServeAsync(socket);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
            {
                if (e is not SocketException)
                {
                    return;
                }
            }
        }
    }

    private async Task ExpectAllAsync()
    {
        if (_options.JoinTimeout <= TimeSpan.Zero || !await Elapsed(_options.JoinTimeout))
        {
            return;
        }

        string? missing = null;
        lock (_gate)
        {
            if (_joined < _size)
            {
                missing = Ranks([.. Enumerable.Range(0, _size).Where(r => _members[r] is null)]);
            }
        }

        if (missing is not null)
        {
            Fail($"{missing} of {_size} did not join the rendezvous within {_options.JoinTimeout.TotalSeconds:G4} s");
        }
    }

    /// <summary>One connection, from its hello to its end.</summary>
    private async Task ServeAsync(Socket socket)
    {
        using var stream = new NetworkStream(socket, ownsSocket: true);
        Member? member = null;
        try
        {
            using (var patience = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token))
            {
                patience.CancelAfter(s_hello);
                member = await RendezvousWire.ReadAsync(stream, RendezvousWire.MostHelloBytes, patience.Token)
                    is { } hello ? Admit(hello, socket) : null;
            }

            while (member is not null && await RendezvousWire.ReadAsync(stream, RendezvousWire.MostBytes, _stop.Token) is { } frame)
            {
                Handle(member, frame);
            }
        }
        catch (Exception e)
        {
            if (member is not null)
            {
                Fail($"rank {member.Rank} ({member.Where}) sent what is no message of a rendezvous: {e.Message}");
                return;
            }
        }

        if (member is { HasLeft: false } && !_leaving)
        {
            Fail($"rank {member.Rank} ({member.Where}) died");
        }
    }

    /// <summary>Takes the newcomer in, or names what is wrong to it and, while ranks are still joining, to all.</summary>
    private Member? Admit(byte[] frame, Socket socket)
    {
        var (kind, body) = RendezvousWire.Open(frame);
        if (kind != RendezvousMessage.Hello || body.ReadMark() != RendezvousWire.Mark)
        {
            return null;                                // somebody else's connection
        }

        var (rank, size, fingerprint, where) = (body.ReadInt32(), body.ReadInt32(), body.ReadString(), body.ReadString());
        var member = new Member(rank, where, socket);
        string? wrong;
        bool complete;
        lock (_gate)
        {
            wrong = _failure ?? (size != _size ? $"rank {rank} ({where}) was started as one of {size} ranks, rank 0 as one of {_size}"
                : rank < 0 || rank >= _size ? $"a process ({where}) joined as rank {rank} of {_size}"
                : fingerprint != _fingerprint ? $"rank {rank} ({where}) runs '{fingerprint}', rank 0 '{_fingerprint}'"
                : _members[rank] is { } first ? $"two processes joined as rank {rank}: {first.Where} and {where}"
                : null);
            complete = _joined == _size;
            if (wrong is null)
            {
                _members[rank] = member;
                _joined++;
            }
        }

        if (wrong is not null)
        {
            member.Send(RendezvousWire.Frame(RendezvousMessage.Abort, w => w.Write(wrong)));
            if (!complete)
            {
                Fail(wrong);
            }

            return null;
        }

        if (Volatile.Read(ref _joined) == _size)
        {
            Welcome();
        }

        return member;
    }

    private void Welcome()
    {
        var frame = RendezvousWire.Frame(RendezvousMessage.Welcome, w =>
        {
            foreach (var member in _members)
            {
                w.Write(member!.Where);
            }
        });
        foreach (var member in _members)
        {
            member!.Send(frame);
        }
    }

    private void Handle(Member member, byte[] frame)
    {
        var (kind, body) = RendezvousWire.Open(frame);
        switch (kind)
        {
            case RendezvousMessage.Put:
                Put(body.ReadString(), body.ReadBytes());
                break;
            case RendezvousMessage.Get:
                Get(member, body.ReadInt64(), body.ReadString());
                break;
            case RendezvousMessage.Exchange:
                Exchange(member, body.ReadInt64(), body.ReadString(), body.ReadBytes());
                break;
            case RendezvousMessage.Abort:
                Fail(body.ReadString());
                break;
            case RendezvousMessage.TimedOut or RendezvousMessage.Report:
                Collect(CollectiveReport.Read(body), member.Rank);
                break;
            case RendezvousMessage.Goodbye:
                member.HasLeft = true;
                var left = RendezvousWire.Frame(RendezvousMessage.Left, w => w.Write(member.Rank));
                foreach (var other in _members)
                {
                    if (other is { HasLeft: false })
                    {
                        other.Send(left);
                    }
                }

                break;
            default:
                throw new InvalidDataException($"kind {(byte)kind}");
        }
    }

    private void Put(string key, byte[] value)
    {
        List<(Member Member, long Id)>? awaited;
        lock (_gate)
        {
            _values[key] = value;
            _awaited.Remove(key, out awaited);
        }

        foreach (var (member, id) in awaited ?? [])
        {
            Answer(member, id, value);
        }
    }

    private void Get(Member member, long id, string key)
    {
        byte[]? value;
        lock (_gate)
        {
            if (!_values.TryGetValue(key, out value))
            {
                if (!_awaited.TryGetValue(key, out var awaited))
                {
                    _awaited.Add(key, awaited = []);
                    _ = ExpectValueAsync(key);
                }

                awaited.Add((member, id));
            }
        }

        if (value is not null)
        {
            Answer(member, id, value);
        }
    }

    private static void Answer(Member member, long id, byte[] value) => member.Send(RendezvousWire.Frame(RendezvousMessage.Value, w =>
    {
        w.Write(id);
        w.WriteBytes(value);
    }));

    private async Task ExpectValueAsync(string key)
    {
        if (_options.JoinTimeout <= TimeSpan.Zero || !await Elapsed(_options.JoinTimeout))
        {
            return;
        }

        bool missing;
        lock (_gate)
        {
            missing = _awaited.ContainsKey(key);
        }

        if (missing)
        {
            Fail($"no rank brought '{key}' to the rendezvous within {_options.JoinTimeout.TotalSeconds:G4} s");
        }
    }

    private void Exchange(Member member, long id, string key, byte[] value)
    {
        (byte[] Value, long Id)?[] all;
        lock (_gate)
        {
            if (!_exchanges.TryGetValue(key, out all!))
            {
                _exchanges.Add(key, all = new (byte[], long)?[_size]);
                _ = ExpectExchangeAsync(key, all);
            }

            all[member.Rank] = (value, id);
            if (all.Any(v => v is null))
            {
                return;
            }

            _exchanges.Remove(key);
        }

        for (var rank = 0; rank < _size; rank++)
        {
            _members[rank]!.Send(RendezvousWire.Frame(RendezvousMessage.Values, w =>
            {
                w.Write(all[rank]!.Value.Id);
                foreach (var one in all)
                {
                    w.WriteBytes(one!.Value.Value);
                }
            }));
        }
    }

    private async Task ExpectExchangeAsync(string key, (byte[] Value, long Id)?[] all)
    {
        if (_options.JoinTimeout <= TimeSpan.Zero || !await Elapsed(_options.JoinTimeout))
        {
            return;
        }

        string? missing = null;
        lock (_gate)
        {
            if (_exchanges.TryGetValue(key, out var current) && current == all)
            {
                missing = Ranks([.. Enumerable.Range(0, _size).Where(r => all[r] is null)]);
            }
        }

        if (missing is not null)
        {
            Fail($"{missing} did not bring '{key}' to the rendezvous within {_options.JoinTimeout.TotalSeconds:G4} s");
        }
    }

    /// <summary>The first report of a time-out asks all others for theirs; when they are in, or two seconds have passed, the diagnosis ends
    /// the job.</summary>
    private void Collect(CollectiveReport report, int rank)
    {
        bool first, all;
        lock (_gate)
        {
            first = _reports is null;
            _reports ??= new CollectiveReport?[_size];
            _reports[rank] = report;
            all = _reports.All(r => r is not null);
        }

        if (all)
        {
            _allReported.TrySetResult();
        }

        if (first)
        {
            var frame = RendezvousWire.Frame(RendezvousMessage.Collect);
            foreach (var member in _members)
            {
                if (member is not null && member.Rank != rank)
                {
                    member.Send(frame);
                }
            }

            _ = DiagnoseAsync();
        }
    }

    private async Task DiagnoseAsync()
    {
        await Task.WhenAny(_allReported.Task, Task.Delay(s_reports));
        CollectiveReport?[] reports;
        lock (_gate)
        {
            if (_failure is not null)
            {
                return;
            }

            reports = [.. _reports!];
        }

        var diagnosis = CollectiveReport.Diagnose(reports, _options.Timeout.TotalSeconds);
        _options.Write(diagnosis);
        Fail(diagnosis);
    }

    /// <summary>False when the server was stopped before.</summary>
    private async Task<bool> Elapsed(TimeSpan time)
    {
        try
        {
            await Task.Delay(time, _stop.Token);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    private static string Ranks(IReadOnlyList<int> ranks) => ranks.Count == 1 ? $"rank {ranks[0]}" : $"ranks {string.Join(',', ranks)}";

    private sealed class Member(int rank, string where, Socket socket)
    {
        private readonly Lock _sending = new();

        public int Rank => rank;

        public string Where => where;

        public volatile bool HasLeft;

        public void Send(byte[] frame)
        {
            lock (_sending)
            {
                try
                {
                    for (var sent = 0; sent < frame.Length;)
                    {
                        sent += socket.Send(frame.AsSpan(sent));
                    }
                }
                catch (Exception e) when (e is SocketException or ObjectDisposedException)
                {
                    // its reader sees the same and says that it died
                }
            }
        }
    }
}
