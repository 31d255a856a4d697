using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class SwiGlu
{
    private const int Threads = 128;

    private static readonly CudaKernel s_forward = new(NativeSources.Of("SwiGlu"), "swiglu_forward");
    private static readonly CudaKernel s_backward = new(NativeSources.Of("SwiGlu"), "swiglu_backward");

    internal static CudaKernel[] CudaKernels => [s_forward, s_backward];

    private static void ForwardCuda<T>(CudaStream stream, Tensor<T> gateUp, Tensor<T> y)
        where T : unmanaged
    {
        Expect.BFloat16<T>("SwiGlu.Forward");
        var p = new ForwardParams
        {
            GateUp = (BFloat16*)Expect.On(stream, gateUp), Y = (BFloat16*)Expect.On(stream, y), Columns = y.Shape[1],
        };
        if (y.Count > 0)
        {
            stream.Launch(s_forward, Grid(y.Shape), Threads, p);
        }
    }

    private static void BackwardCuda<T>(CudaStream stream, Tensor<T> dy, Tensor<T> gateUp, Tensor<T> dgateUp)
        where T : unmanaged
    {
        Expect.BFloat16<T>("SwiGlu.Backward");
        var p = new BackwardParams
        {
            Dy = (BFloat16*)Expect.On(stream, dy), GateUp = (BFloat16*)Expect.On(stream, gateUp),
            DgateUp = (BFloat16*)Expect.On(stream, dgateUp), Columns = dy.Shape[1],
        };
        if (dy.Count > 0)
        {
            stream.Launch(s_backward, Grid(dy.Shape), Threads, p);
        }
    }

    private static CudaGrid Grid(Shape shape)
    {
        var items = shape[1] % 8 == 0 ? shape[1] / 8 : shape[1];
        return new CudaGrid(shape[0], (items + Threads - 1) / Threads);
    }

    private struct ForwardParams
    {
        public BFloat16* GateUp, Y;
        public int Columns;
    }

    private struct BackwardParams
    {
        public BFloat16* Dy, GateUp, DgateUp;
        public int Columns;
    }
}
