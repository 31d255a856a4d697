using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>The devices that kernel tests run on. Where one is absent its cases are skipped, never passed.</summary>
public static class KernelDevices
{
    private static readonly Lazy<CudaDevice> s_hostCuda = new(() => CudaDevice.Open(CudaDriver.HostCuda));

    /// <summary>"cpu" and "hostcuda", for [MemberData].</summary>
    public static TheoryData<string> All => ["cpu", "hostcuda"];

    /// <summary>The hostcuda device of this process; skips the calling test when libhostcuda.so or its compiler is absent.</summary>
    public static CudaDevice HostCuda
    {
        get
        {
            if (!CudaDevice.IsAvailable(CudaDriver.HostCuda, out var reason))
            {
                Assert.Skip(reason);
            }

            return s_hostCuda.Value;
        }
    }
}
