using System.Globalization;

namespace Z1Coder.Runtime;

/// <summary>
/// One entry point of a device file under fixed constants. Kept in a static field of its family; compiled and loaded once per device, at
/// its first launch there. Entry points of one file under the same constants share a module.
/// </summary>
public sealed class CudaKernel
{
    private CudaFunction? _last;

    /// <summary>The entry point <paramref name="entry"/> of <paramref name="source"/>.</summary>
    /// <param name="source">the device file</param>
    /// <param name="entry">snake_case name of the __global__ function</param>
    /// <param name="constants">macros that specialise the file: ("kHeadDim", 128)</param>
    public CudaKernel(KernelSource source, string entry, params (string Name, int Value)[] constants)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentException.ThrowIfNullOrEmpty(entry);
        ArgumentNullException.ThrowIfNull(constants);
        Source = source;
        Entry = entry;
        Constants = constants;
        ConstantsText = string.Join(' ', constants.Select(c => string.Create(CultureInfo.InvariantCulture, $"{c.Name}={c.Value}")));
        Label = constants.Length == 0 ? entry : $"{entry} ({ConstantsText})";
    }

    /// <summary>Name of the device file without ".cu".</summary>
    public string Stem => Source.Stem;

    /// <summary>Name of the __global__ function.</summary>
    public string Entry { get; }

    /// <summary>The device file.</summary>
    public KernelSource Source { get; }

    /// <summary>Macros that specialise the file.</summary>
    public IReadOnlyList<(string Name, int Value)> Constants { get; }

    /// <summary>"kHeadDim=128 kTileM=64"; "" without constants.</summary>
    public string ConstantsText { get; }

    /// <summary>Entry point and constants, for messages and traces.</summary>
    internal string Label { get; }

    /// <summary>Blocks of <paramref name="threads"/> threads that one multiprocessor holds at once. Compiles and loads the kernel.</summary>
    public unsafe int BlocksPerMultiprocessor(CudaDevice device, int threads, int sharedBytes = 0)
    {
        ArgumentNullException.ThrowIfNull(device);
        var function = On(device);
        function.AllowShared(sharedBytes, this);
        device.Context.MakeCurrent();
        int blocks;
        Cuda.Check(Cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function.Value, threads, (nuint)sharedBytes));
        return blocks;
    }

    /// <summary>Compiles and loads the kernel now, so that the first launch does not wait for it.</summary>
    public void Prepare(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        _ = On(device);
    }

    /// <inheritdoc/>
    public override string ToString() => Label;

    internal CudaFunction On(CudaDevice device)
    {
        var last = _last;
        if (last is not null && ReferenceEquals(last.Device, device))
        {
            return last;
        }

        return _last = device.Function(this);
    }
}
