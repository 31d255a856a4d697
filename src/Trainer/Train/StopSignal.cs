using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace Z1Coder.Trainer.Train;

/// <summary>SIGTERM, SIGINT (Ctrl-C) and SIGHUP become a request to stop, seen wherever the run is: reading data, between micro-batches, evaluating.
/// A second signal ends the process as usual.</summary>
public sealed class StopSignal : IDisposable
{
    [SuppressMessage("Design", "CA2213", Justification = "a late handler may still cancel it")]
    private readonly CancellationTokenSource _source = new();
    private readonly List<PosixSignalRegistration> _registrations = [];

    /// <summary>Starts listening.</summary>
    public StopSignal()
    {
        foreach (var signal in new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP })
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = !_source.IsCancellationRequested;
                Name = context.Signal.ToString();
                _source.Cancel();
            }));
        }
    }

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => _source.Token;

    /// <summary>Which signal came; empty before one does.</summary>
    public string Name { get; private set; } = "";

    /// <inheritdoc/>
    public void Dispose()
    {
        // the source lives on: a handler may still be running on another thread, and without a timer it holds nothing
        _registrations.ForEach(r => r.Dispose());
    }
}
