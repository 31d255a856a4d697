using System.Collections;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>
/// The ranks of one machine as child processes, in process groups of their own so that a terminal's Ctrl-C reaches this process alone. A signal to
/// it goes to every rank once, at once; one that comes more than two seconds later ends them. When a rank fails, the others get a time to end by
/// themselves, then SIGTERM, then SIGKILL, whether what they say is read or not. When this process is killed, the ranks are killed by the kernel.
/// </summary>
internal sealed class Launcher : IDisposable
{
    private const int PollMilliseconds = 100, SignalTerminate = 15, SignalKill = 9, SignalUser1 = 10;

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    private readonly int _ranks;
    private readonly TimeSpan _grace;
    private readonly int _stopped;
    private readonly LineWriter _output = new(1), _error = new(2);
    private readonly List<PosixSignalRegistration> _registrations = [];
    private readonly Lock _gate = new();
    private readonly Stopwatch _since = new();
    private IReadOnlyList<Child> _children = [];
    private int _signal;

    /// <summary>Listens to signals from here on.</summary>
    /// <param name="ranks">how many</param>
    /// <param name="grace">for the others when one has failed</param>
    /// <param name="stopped">exit code of ranks that a signal ended in order: the others are ending too, and get their time</param>
    public Launcher(int ranks, TimeSpan grace, int stopped)
    {
        (_ranks, _grace, _stopped) = (ranks, grace, stopped);
        (PosixSignal, int)[] signals =
            [(PosixSignal.SIGTERM, SignalTerminate), (PosixSignal.SIGINT, 2), (PosixSignal.SIGHUP, 1), ((PosixSignal)SignalUser1, SignalUser1)];
        foreach (var (signal, number) in signals)
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                Forward(number);
            }));
        }
    }

    /// <summary>A signal has come.</summary>
    public bool StopRequested => Volatile.Read(ref _signal) != 0;

    /// <summary>Runs the verb once on every rank, to the end of all.</summary>
    /// <returns>null when all ended with 0, else the first that did not</returns>
    public LaunchExit? Run(IReadOnlyList<string> verb)
    {
        var children = new List<Child>(_ranks);
        try
        {
            var (port, token) = (FreePort(), RandomNumberGenerator.GetHexString(32));
            for (var rank = 0; rank < _ranks; rank++)
            {
                children.Add(new Child(rank, verb, RankEnvironment.ForChild(Environment.ProcessId, rank, _ranks, port, token), _output, _error));
            }

            lock (_gate)
            {
                _children = children;
                if (_signal != 0)
                {
                    Send(children, _signal);
                }
            }

            return Watch(children);
        }
        finally
        {
            lock (_gate)
            {
                _children = [];
                children.ForEach(c => c.Dispose());        // kills what is left
            }
        }
    }

    /// <summary>A line of this program's own, on standard error behind what ranks have said there.</summary>
    public void Say(string line) => _error.TryWrite(Encoding.UTF8.GetBytes(line + "\n"));

    /// <summary>Waits; true when a signal came meanwhile.</summary>
    public bool Pause(TimeSpan time)
    {
        for (var watch = Stopwatch.StartNew(); watch.Elapsed < time && !StopRequested;)
        {
            Thread.Sleep(PollMilliseconds);
        }

        return StopRequested;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _registrations.ForEach(r => r.Dispose());
        if (!_output.Drain(s_patience))
        {
            Say($"z1: {_output.Waiting} bytes of the ranks' output were not read and are lost");
        }

        _error.Drain(s_patience);
    }

    private LaunchExit? Watch(List<Child> children)
    {
        var clock = Stopwatch.StartNew();
        LaunchExit? first = null, stopped = null;
        var (terminateAt, killAt) = (TimeSpan.MaxValue, TimeSpan.MaxValue);
        var handles = new SafeFileHandle?[3 * children.Count];
        while (children.Exists(c => c.IsRunning))
        {
            for (var i = 0; i < children.Count; i++)
            {
                (handles[3 * i], handles[(3 * i) + 1], handles[(3 * i) + 2]) = children[i].Handles;
            }

            ChildProcess.Poll(handles, PollMilliseconds);
            foreach (var child in children)
            {
                child.Copy();
                if (child.EndedNow() is { } code && code != 0)
                {
                    var exit = new LaunchExit(child.Rank, code, clock.Elapsed.TotalSeconds);
                    if (code == _stopped)
                    {
                        stopped = exit;
                    }
                    else if (first is null)
                    {
                        (first, terminateAt) = (exit, clock.Elapsed + _grace);
                    }
                    else if (exit.IsSignal && !first.IsSignal && clock.Elapsed.TotalSeconds - first.Seconds < PollMilliseconds / 1000.0)
                    {
                        first = exit;                      // seen in one go: the cause is the one that was killed
                    }
                }
            }

            if (clock.Elapsed > terminateAt)
            {
                Send(children, SignalTerminate);
                (terminateAt, killAt) = (TimeSpan.MaxValue, clock.Elapsed + _grace);
            }

            if (clock.Elapsed > killAt)
            {
                Send(children, SignalKill);
                killAt = TimeSpan.MaxValue;
            }
        }

        children.ForEach(c => c.Copy());
        return first ?? stopped;
    }

    // On the thread that was told, whatever the one that watches waits for.
    private void Forward(int signal)
    {
        lock (_gate)
        {
            if (_signal != 0 && _since.Elapsed < StopSignal.Once)
            {
                return;
            }

            Send(_children, _signal == 0 ? signal : SignalKill);
            _signal = signal;
            _since.Start();
        }
    }

    private static void Send(IReadOnlyList<Child> children, int signal)
    {
        foreach (var child in children.Where(c => c.IsRunning))
        {
            child.Signal(signal);
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>A rank: its process, and what it says, copied in whole lines.</summary>
    private sealed class Child : IDisposable
    {
        private readonly ChildProcess _process;
        private readonly Pipe _output, _error;

        public Child(int rank, IReadOnlyList<string> verb, IReadOnlyDictionary<string, string> variables, LineWriter output, LineWriter error)
        {
            Rank = rank;
            var (program, before) = Program();
            var environment = Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
                .Where(e => !variables.ContainsKey((string)e.Key)).Select(e => $"{e.Key}={e.Value}").Concat(variables.Select(v => $"{v.Key}={v.Value}")).ToList();
            var prefix = rank == 0 ? [] : Encoding.UTF8.GetBytes($"[rank {rank}] ");
            var (readOutput, writeOutput) = ChildProcess.Pipe();
            var (readError, writeError) = ChildProcess.Pipe();
            using (writeOutput)
            using (writeError)
            using (var nothing = File.OpenHandle("/dev/null"))
            {
                _output = new Pipe(readOutput, prefix, output);
                _error = new Pipe(readError, prefix, error);
                _process = ChildProcess.Start(
                    program, [program, .. before, .. verb], environment, [nothing, writeOutput, writeError], ownGroup: true);
            }
        }

        public int Rank { get; }

        public bool IsRunning { get; private set; } = true;

        public (SafeFileHandle? Process, SafeFileHandle? Output, SafeFileHandle? Error) Handles =>
            (IsRunning ? _process.Handle : null, _output.Open, _error.Open);

        public void Copy(bool last = false)
        {
            _output.Copy(last);
            _error.Copy(last);
        }

        /// <summary>The exit code, once, when it has ended.</summary>
        public int? EndedNow()
        {
            if (!IsRunning || !ChildProcess.Poll([_process.Handle], 0))
            {
                return null;
            }

            IsRunning = false;
            var code = _process.Wait().Code;
            Copy(last: true);                              // what it wrote last stands before what is said about its end
            _output.End();
            _error.End();
            return code;
        }

        public void Signal(int signal) => _process.Signal(signal);

        public void Dispose()
        {
            _process.Dispose();
            _output.Dispose();
            _error.Dispose();
        }

        /// <summary>This program: the apphost, or dotnet with the assembly.</summary>
        private static (string Path, string[] Before) Program()
        {
            var path = Environment.ProcessPath ?? throw new InvalidInputException("the path of this program is not known");
            return Path.GetFileNameWithoutExtension(path) == "dotnet" ? (path, [Environment.GetCommandLineArgs()[0]]) : (path, []);
        }
    }

    /// <summary>A pipe copied line by line, so that the lines of ranks do not mix.</summary>
    private sealed class Pipe(SafeFileHandle handle, byte[] prefix, LineWriter to) : IDisposable
    {
        private const int LongestLine = 1 << 16, MostReads = 256;

        private readonly byte[] _buffer = new byte[1 << 12];
        private readonly List<byte> _line = [];
        private bool _ended;

        /// <summary>Null also while what was read waits for its own reader: then the rank waits, as it would without this copy between.</summary>
        public SafeFileHandle? Open => _ended || !to.HasRoom ? null : handle;

        /// <param name="last">the process has ended: what its pipe holds is read in any case</param>
        public void Copy(bool last)
        {
            // A few at a time: who writes without an end must not keep the others waiting.
            for (var turn = 0; turn < MostReads && !_ended && (last || to.HasRoom) && ChildProcess.Read(handle, _buffer) is var count && count >= 0; turn++)
            {
                _ended = count == 0;
                foreach (var b in _buffer.AsSpan(0, count))
                {
                    _line.Add(b);
                    if (b == '\n' || _line.Count == LongestLine)
                    {
                        Flush();
                    }
                }
            }
        }

        /// <summary>The process has ended: nothing that it started is waited for.</summary>
        public void End()
        {
            _ended = true;
            if (_line.Count > 0)
            {
                _line.Add((byte)'\n');
                Flush();
            }
        }

        public void Dispose() => handle.Dispose();

        private void Flush()
        {
            if (!to.TryWrite([.. prefix, .. CollectionsMarshal.AsSpan(_line)]))
            {
                throw new IOException(to.Failure!.Message);
            }

            _line.Clear();
        }
    }
}
