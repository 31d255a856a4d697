using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class CrossEntropy
{
    private static void GatherCpu<T>(CpuStream stream, Tensor<T> from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged => stream.For(rows.Shape[0], 16, new GatherJob<T>(from, rows, to));

    private static void ScatterCpu<T>(CpuStream stream, Tensor<T> from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged => stream.For(rows.Shape[0], 16, new ScatterJob<T>(from, rows, to));

    private static void ClearRowsCpu<T>(CpuStream stream, Tensor<int> rows, Tensor<T> tensor)
        where T : unmanaged => stream.For(rows.Shape[0], 16, new ClearRowsJob<T>(rows, tensor));

    private static void SpreadCpu(Tensor<float> losses, Tensor<int> rows, Tensor<float> perToken)
    {
        for (var i = 0; i < rows.Shape[0]; i++)
        {
            perToken.Span[rows.Span[i]] = losses.Span[i];
        }
    }

    private static void AddSumCpu(Tensor<float> losses, Tensor<double> lossSum, float scale)
    {
        var sum = 0.0;
        foreach (var loss in losses.Span)
        {
            sum += loss;
        }

        lossSum.Span[0] += scale * sum;
    }

    private readonly struct GatherJob<T>(Tensor<T> from, Tensor<int> rows, Tensor<T> to) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var i = begin; i < end; i++)
            {
                from.Row(rows.Span[i]).CopyTo(to.Row(i));
            }
        }
    }

    private readonly struct ScatterJob<T>(Tensor<T> from, Tensor<int> rows, Tensor<T> to) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var i = begin; i < end; i++)
            {
                from.Row(i).CopyTo(to.Row(rows.Span[i]));
            }
        }
    }

    private readonly struct ClearRowsJob<T>(Tensor<int> rows, Tensor<T> tensor) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var i = begin; i < end; i++)
            {
                tensor.Row(rows.Span[i]).Clear();
            }
        }
    }
}
