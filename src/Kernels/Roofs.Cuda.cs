using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public sealed partial record Roofs
{
    /// <summary>A device copy of 1 GiB, and bf16 products of 8192³ by cuBLASLt on random data (zeros run about an eighth faster: less power).
    /// Reading alone is given the bandwidth of the copy. fp32 products are not a roof of anything here and are 0. On hostcuda the sizes are
    /// small and the figures say nothing about a GPU.</summary>
    private static Roofs MeasureCuda(CudaStream stream, bool quick)
    {
        var (warm, repeats) = Runs(stream, quick);
        var bytes = stream.Device.IsHostCuda ? 1 << 20 : quick ? 1 << 28 : 1 << 30;
        using var arena = stream.CreateArena("roofs");
        var (from, to) = (arena.Declare<byte>(bytes), arena.Declare<byte>(bytes));
        arena.Allocate();
        var copy = BestMilliseconds(stream, warm, repeats, () => stream.Copy(from, to));
        var bandwidth = 2.0 * bytes / copy * 1e3;
        return new(bandwidth, bandwidth, 0, GemmCuda(stream, quick));
    }

    private static double GemmCuda(CudaStream stream, bool quick)
    {
        var (warm, repeats) = Runs(stream, quick);
        var size = stream.Device.IsHostCuda ? 32 : quick ? 4096 : 8192;
        using var arena = stream.CreateArena("roofs");
        var (x, w, y) = (arena.Declare<BFloat16>(size, size), arena.Declare<BFloat16>(size, size), arena.Declare<BFloat16>(size, size));
        arena.Allocate();
        Fill(x);
        Fill(w, seed: 2);
        var gemm = BestMilliseconds(stream, warm, repeats, () => Matmul.Forward(stream, x, w, default, y));
        return Matmul.ForwardCost(size, size, size, 2).Flops / gemm * 1e3;
    }

    private static (int Warm, int Repeats) Runs(CudaStream stream, bool quick) => stream.Device.IsHostCuda ? (1, 1) : quick ? (5, 10) : (10, 50);

    private static double BestMilliseconds(CudaStream stream, int warm, int repeats, Action run)
    {
        using var start = new CudaEvent(stream.Device, timed: true);
        using var end = new CudaEvent(stream.Device, timed: true);
        for (var i = 0; i < warm; i++)
        {
            run();
        }

        var best = double.MaxValue;
        for (var i = 0; i < repeats; i++)
        {
            stream.Record(start);
            run();
            stream.Record(end);
            end.Synchronize();
            best = Math.Min(best, end.MillisecondsSince(start));
        }

        return Math.Max(best, 1e-6);
    }
}
