using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Rope
{
    private const int Threads = 128;

    private static readonly CudaKernel s_rotate = new(NativeSources.Of("Rope"), "rope_rotate");

    internal static CudaKernel[] CudaKernels => [s_rotate];

    private static void RotateCuda<T>(
        CudaStream stream, Tensor<T> qkv, Tensor<int> positions, RopeTable table, int rotatedHeads, float direction)
        where T : unmanaged
    {
        Expect.BFloat16<T>(direction > 0 ? "Rope.Forward" : "Rope.Backward");
        var half = table.HeadDim / 2;
        var p = new RotateParams
        {
            Qkv = (BFloat16*)Expect.On(stream, qkv), Positions = Expect.On(stream, positions), Cos = Expect.On(stream, table.Cos),
            Sin = Expect.On(stream, table.Sin), Columns = qkv.Shape[1], RotatedHeads = rotatedHeads, Half = half, Direction = direction,
        };
        var items = rotatedHeads * (half % 8 == 0 ? half / 8 : half);
        if (qkv.Shape[0] > 0 && items > 0)
        {
            stream.Launch(s_rotate, new CudaGrid(qkv.Shape[0], (items + Threads - 1) / Threads), Threads, p);
        }
    }

    private struct RotateParams
    {
        public BFloat16* Qkv;
        public int* Positions;
        public float* Cos, Sin;
        public int Columns, RotatedHeads, Half;
        public float Direction;
    }
}
