using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class CrossEntropy
{
    private static void Gather<T>(ComputeStream stream, Tensor<T> from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged => Cpu(stream).For(rows.Shape[0], 16, new GatherJob<T>(from, rows, to));

    private static void Scatter<T>(ComputeStream stream, Tensor<T> from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged => Cpu(stream).For(rows.Shape[0], 16, new ScatterJob<T>(from, rows, to));

    private static void ClearIgnored<T>(ComputeStream stream, Tensor<int> targets, Tensor<T> dhidden)
        where T : unmanaged => Cpu(stream).For(targets.Shape[0], 16, new ClearIgnoredJob<T>(targets, dhidden));

    private static void Clear(ComputeStream stream, Tensor<float> tensor) => Zero.Fill(Cpu(stream), tensor);

    private static void Spread(ComputeStream stream, Tensor<float> losses, Tensor<int> rows, int count, Tensor<float> perToken)
    {
        _ = Cpu(stream);
        perToken.Span.Clear();
        for (var i = 0; i < count; i++)
        {
            perToken.Span[rows.Span[i]] = losses.Span[i];
        }
    }

    private static double SumInOrder(ComputeStream stream, Tensor<float> losses, int count)
    {
        _ = Cpu(stream);
        var sum = 0.0;
        foreach (var loss in losses.Span[..count])
        {
            sum += loss;
        }

        return sum;
    }

    private static CpuStream Cpu(ComputeStream stream) => stream as CpuStream ?? Expect.NoDevice(stream);

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

    private readonly struct ClearIgnoredJob<T>(Tensor<int> targets, Tensor<T> rows) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var t = begin; t < end; t++)
            {
                if (targets.Span[t] == IgnoreIndex)
                {
                    rows.Row(t).Clear();
                }
            }
        }
    }
}
