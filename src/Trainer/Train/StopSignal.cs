using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace Z1Coder.Trainer.Train;

/// <summary>SIGTERM, SIGINT (Ctrl-C), SIGHUP and SIGUSR1 (which Open MPI's mpirun passes on, as it does not SIGTERM) become a request to
/// stop, seen
/// wherever the run is: reading data, between micro-batches, evaluating. A signal that comes more than two seconds after the first ends the
/// process as usual; until then it is the same wish told twice, as by a shell and a kernel that both hang up.</summary>
public sealed class StopSignal : IDisposable
{
    /// <summary>Signals that come within this time of the first are part of it.</summary>
    public static readonly TimeSpan Once = TimeSpan.FromSeconds(2);

    private const PosixSignal User1 = (PosixSignal)10;

    [SuppressMessage("Design", "CA2213", Justification = "a late handler may still cancel it")]
    private readonly CancellationTokenSource _source = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private readonly Stopwatch _since = new();

    /// <summary>Starts listening.</summary>
    public StopSignal()
    {
        foreach (var signal in new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP, User1 })
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                lock (_since)
                {
                    context.Cancel = _since.Elapsed < Once;
                    if (!_since.IsRunning)
                    {
                        Name = context.Signal == User1 ? "SIGUSR1" : context.Signal.ToString();
                        _since.Start();
                    }
                }

                _source.Cancel();
            }));
        }
    }

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => _source.Token;

    /// <summary>Which signal came; until one does, it can only have come to another rank.</summary>
    public string Name { get; private set; } = "a signal to another rank";

    /// <inheritdoc/>
    public void Dispose()
    {
        // the source lives on: a handler may still be running on another thread, and without a timer it holds nothing
        _registrations.ForEach(r => r.Dispose());
    }
}
