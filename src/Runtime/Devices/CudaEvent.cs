namespace Z1Coder.Runtime;

/// <summary>A point in a stream that others can wait for, and that can be timed.</summary>
public sealed unsafe class CudaEvent : IDisposable
{
    private const uint DisableTiming = 2;

    private readonly CudaHandle _handle;

    /// <summary>An event that has not been recorded; waiting for it returns at once.</summary>
    /// <param name="device">of the streams that record it</param>
    /// <param name="timed">whether <see cref="MillisecondsSince"/> will be asked; costs a little on the device</param>
    public CudaEvent(CudaDevice device, bool timed = false)
    {
        ArgumentNullException.ThrowIfNull(device);
        Device = device;
        device.Context.MakeCurrent();
        nint value;
        Cuda.Check(Cuda.cuEventCreate(&value, timed ? 0 : DisableTiming));
        _handle = new(device.Context, value, CudaHandleKind.Event);
    }

    /// <summary>The device of the streams that record it.</summary>
    public CudaDevice Device { get; }

    /// <summary>Whether all work before the last record has finished.</summary>
    public bool IsDone
    {
        get
        {
            Device.Context.MakeCurrent();
            var result = Cuda.cuEventQuery(Value);
            if (result is Cuda.Success or Cuda.NotReady)
            {
                return result == Cuda.Success;
            }

            Cuda.Throw(result, "cuEventQuery(event)");
            return false;
        }
    }

    internal nint Value => _handle.Value;

    /// <summary>Blocks the caller until all work before the last record has finished.</summary>
    public void Synchronize()
    {
        Device.Context.MakeCurrent();
        Cuda.Check(Cuda.cuEventSynchronize(Value));
    }

    /// <summary>Milliseconds from <paramref name="start"/> to this event; both timed and done.</summary>
    public float MillisecondsSince(CudaEvent start)
    {
        ArgumentNullException.ThrowIfNull(start);
        Device.Context.MakeCurrent();
        float milliseconds;
        Cuda.Check(Cuda.cuEventElapsedTime(&milliseconds, start.Value, Value));
        return milliseconds;
    }

    /// <summary>Destroys the event; the driver keeps what streams still wait for.</summary>
    public void Dispose() => _handle.Dispose();
}
