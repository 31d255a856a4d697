using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>A device file of the tests' own: one kernel that works and some that do not.</summary>
internal static unsafe class TestKernels
{
    public const string Text = """
        #include "z1.cuh"
        #ifndef kFactor
        #define kFactor 2
        #endif

        struct ScaleParams {
          const float* x;
          float* y;
          int32_t count;
        };
        static_assert(sizeof(ScaleParams) == 24);

        // y = kFactor · x
        Z1_KERNEL(128, 1, test_scale, ScaleParams) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          if (i < p.count) p.y[i] = kFactor * p.x[i];
        }

        // writes one element too far
        Z1_KERNEL(128, 1, test_overrun, ScaleParams) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          if (i <= p.count) p.y[i] = p.x[0];
        }

        // y[0] = sum of x through 64 KiB of shared memory
        struct Shared { float values[16384]; };
        Z1_KERNEL(32, 1, test_shared, ScaleParams) {
          auto& s = *shared_memory<Shared>();
          s.values[threadIdx.x * 512] = threadIdx.x < p.count ? p.x[threadIdx.x] : 0;
          ptx::sync_threads();
          if (threadIdx.x == 0) {
            float sum = 0;
            for (int i = 0; i < 32; i++) sum += s.values[i * 512];
            p.y[0] = sum;
          }
        }
        """;

    public static readonly KernelSource Source = new("TestKernels", name => name == "TestKernels.cu" ? Text : NativeSources.Read(name));
    public static readonly CudaKernel Scale = new(Source, "test_scale");
    public static readonly CudaKernel Triple = new(Source, "test_scale", ("kFactor", 3));
    public static readonly CudaKernel Overrun = new(Source, "test_overrun");
    public static readonly CudaKernel Shared = new(Source, "test_shared");

    public const int SharedBytes = 65536;

    /// <summary>Mirrors ScaleParams.</summary>
    public struct Params
    {
        public float* X, Y;
        public int Count;
    }

    public static void Launch(CudaStream stream, CudaKernel kernel, Tensor<float> x, Tensor<float> y, int block = 128, int sharedBytes = 0) =>
        stream.Launch(kernel, new((int)((x.Count + block - 1) / block)), block, new Params { X = x.Pointer, Y = y.Pointer, Count = (int)x.Count }, sharedBytes);
}
