using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime;

/// <summary>A hostcuda device of one test. At its end every handle the test made must be gone and no injected or sticky error remains.</summary>
internal sealed class CudaBench : IDisposable
{
    private readonly int _handlesBefore;
    private readonly List<Arena> _arenas = [];

    public CudaBench()
    {
        _ = KernelDevices.HostCuda;                 // skips where hostcuda is absent; its context stays
        HostCuda.ResetFault();
        _handlesBefore = HostCuda.LiveHandles;
        Device = CudaDevice.Open(CudaDriver.HostCuda);
        Stream = new CudaStream(Device);
    }

    public CudaDevice Device { get; }

    public CudaStream Stream { get; }

    public Tensor<float> Floats(int count, string name = "test")
    {
        var arena = new Arena(name, Device);
        _arenas.Add(arena);
        var tensor = arena.Declare<float>(count);
        arena.Allocate();
        return tensor;
    }

    public Tensor<float> Ramp(int count)
    {
        var tensor = Floats(count);
        Stream.Upload<float>([.. Enumerable.Range(0, count).Select(i => (float)i)], tensor);
        return tensor;
    }

    public float[] Read(Tensor<float> tensor)
    {
        var host = new float[tensor.Count];
        Stream.Download(tensor, host);
        return host;
    }

    public void Dispose()
    {
        HostCuda.ResetFault();
        Stream.Dispose();
        _arenas.ForEach(a => a.Dispose());
        Assert.Equal(0, Device.LiveHandles);
        Device.Dispose();
        Assert.Equal(_handlesBefore, HostCuda.LiveHandles);
    }
}
