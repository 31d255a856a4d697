namespace Z1Coder.Runtime;

/// <summary>Which library answers to the CUDA driver API. One per process: the first opened stays.</summary>
public enum CudaDriver
{
    /// <summary>libcuda.so.1 of the NVIDIA driver.</summary>
    Nvidia,

    /// <summary>libhostcuda.so: runs the same kernels on the CPU, for machines without a GPU and for tests.</summary>
    HostCuda,
}
