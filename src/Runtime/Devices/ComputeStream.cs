namespace Z1Coder.Runtime;

/// <summary>Where an operation runs, and in which order. Kernels look at the stream's type and nothing else to choose their code.</summary>
public abstract class ComputeStream : IDisposable
{
    private const string Cpu = "cpu", Cuda = "cuda", HostCuda = "hostcuda";

    private readonly List<IDisposable> _owned = [];

    /// <summary>A stream over every core ("cpu"), on an NVIDIA GPU ("cuda", or "cuda:1" for the second), or on hostcuda, which runs the CUDA code on
    /// the CPU ("hostcuda"). It owns its device.</summary>
    /// <exception cref="ArgumentException">another name</exception>
    /// <exception cref="NotSupportedException">no such device here; one sentence</exception>
    public static ComputeStream Open(string device)
    {
        if (device == Cpu)
        {
            return new CpuStream();
        }

        if (!IsDeviceName(device))
        {
            throw new ArgumentException($"'{device}' is not one of cpu, cuda, cuda:N, hostcuda", nameof(device));
        }

        var ordinal = device.Length > Cuda.Length + 1 && device[Cuda.Length] == ':' ? int.Parse(device.AsSpan(Cuda.Length + 1)) : 0;
        var opened = CudaDevice.Open(device == HostCuda ? CudaDriver.HostCuda : CudaDriver.Nvidia, ordinal);
        return new CudaStream(opened, ownsDevice: true);
    }

    /// <summary>Whether <see cref="Open"/> knows the name.</summary>
    public static bool IsDeviceName(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name is Cpu or Cuda or HostCuda
            || (name.StartsWith(Cuda + ":", StringComparison.Ordinal) && name.Length <= Cuda.Length + 4
                && name.AsSpan(Cuda.Length + 1) is { Length: > 0 } digits && !digits.ContainsAnyExceptInRange('0', '9'));
    }

    /// <summary>The device, as a person would name it.</summary>
    public abstract string DeviceName { get; }

    /// <summary>Waits until everything enqueued so far has finished; reports its first error.</summary>
    public abstract void Synchronize();

    /// <summary>An arena whose memory the kernels of this stream can use: host memory for a <see cref="CpuStream"/>, device memory for a
    /// <see cref="CudaStream"/>.</summary>
    public abstract Arena CreateArena(string name);

    /// <summary>An arena in host memory that this stream copies to and from without staging: pinned for a <see cref="CudaStream"/>.</summary>
    public abstract Arena CreateHostArena(string name);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        ReleaseOwned();
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the stream holds.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>Disposes <paramref name="resource"/> with the stream, when its work has finished.</summary>
    internal void Own(IDisposable resource) => _owned.Add(resource);

    /// <summary>Disposes what <see cref="Own"/> was given.</summary>
    internal void ReleaseOwned()
    {
        _owned.ForEach(o => o.Dispose());
        _owned.Clear();
    }
}
