using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>The products of a training step at the shapes of the recipes, and those of one decoding step.</summary>
public static class MatmulPerf
{
    // rows (packed tokens) x out features x in features
    private static readonly (int M, int N, int K)[] s_cpu =
    [
        (1024, 512, 256), (1024, 256, 256), (1024, 1376, 256), (1024, 256, 688), (512, 8192, 256),        // nano
        (1024, 768, 512), (1024, 512, 512), (1024, 2816, 512), (1024, 512, 1408), (512, 32000, 512),      // mini
        (1024, 1152, 896), (1024, 896, 896), (512, 9728, 896), (512, 896, 4864), (256, 151936, 896),      // Qwen2.5-Coder-0.5B
    ];

    private static readonly (int M, int N, int K)[] s_gpu =
    [
        (10240, 2048, 1536), (10240, 1536, 1536), (10240, 17920, 1536), (10240, 1536, 8960), (4096, 151936, 1536),     // 1.5B
        (4096, 4608, 3584), (4096, 3584, 3584), (4096, 37888, 3584), (4096, 3584, 18944), (4096, 152064, 3584),        // 7B
    ];

    private static readonly (int M, int N, int K)[] s_small = [(1, 1, 1), (17, 33, 40), (64, 48, 24), (7, 5, 3)];

    private static readonly (int M, int N, int K)[] s_decoding =
        [(1, 1152, 896), (1, 9728, 896), (1, 896, 4864), (1, 151936, 896), (4, 9728, 896), (8, 9728, 896)];

    private static readonly (int M, int N, int K)[] s_rows =
    [
        (1, 2816, 512), (8, 2816, 512), (16, 2816, 512), (64, 2816, 512), (8, 512, 1408),
        (8, 9728, 896), (32, 9728, 896), (64, 9728, 896), (64, 896, 4864),
    ];

    /// <summary>Every case; both element types on a CPU. Two products may share the shape of their bias gradient: it is timed once.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size) => All(size).DistinctBy(c => (c.Name, c.Shape));

    private static IEnumerable<PerfCase> All(PerfSize size)
    {
        var shapes = size switch { PerfSize.Small => s_small, PerfSize.Cpu => s_cpu, _ => s_gpu };
        foreach (var (m, n, k) in shapes)
        {
            foreach (var perfCase in Training<BFloat16>("bf16", m, n, k).Concat(size == PerfSize.Cpu ? Training<float>("fp32", m, n, k) : []))
            {
                yield return perfCase;
            }
        }

        foreach (var (m, n, k) in size == PerfSize.Cpu ? s_decoding : [])
        {
            yield return Forward<BFloat16>("bf16", m, n, k);
            yield return Forward<float>("fp32", m, n, k);
        }

        foreach (var (m, n, k) in size == PerfSize.Cpu ? s_rows : [])
        {
            yield return ForwardRows<BFloat16>("bf16", m, n, k);
            yield return ForwardRows<float>("fp32", m, n, k);
        }
    }

    private static IEnumerable<PerfCase> Training<T>(string dtype, int m, int n, int k)
        where T : unmanaged
    {
        var bytes = dtype == "bf16" ? 2 : 4;
        yield return Forward<T>(dtype, m, n, k);
        yield return new($"Matmul.BackwardInput {dtype}", $"{m}x{n}x{k}", Matmul.BackwardInputCost(m, n, k, bytes), p =>
        {
            var (dy, w, dx) = (p.Random<T>(m, n), p.Random<T>(n, k), p.Output<T>("dx", m, k));
            return stream => Matmul.BackwardInput(stream, dy, w, dx);
        });
        yield return new($"Matmul.BackwardWeight {dtype}", $"{m}x{n}x{k}", Matmul.BackwardWeightCost(m, n, k, bytes, true), p =>
        {
            var (dy, x, dw) = (p.Random<T>(m, n), p.Random<T>(m, k), p.Checked("dw", p.Random<float>(n, k)));
            return stream => Matmul.BackwardWeight(stream, dy, x, dw, accumulate: true);
        });
        yield return new($"Matmul.BackwardBias {dtype}", $"{m}x{n}", Matmul.BackwardBiasCost(m, n, bytes, true), p =>
        {
            var (dy, dbias) = (p.Random<T>(m, n), p.Checked("dbias", p.Random<float>(n)));
            return stream => Matmul.BackwardBias(stream, dy, dbias, accumulate: true);
        });
    }

    private static PerfCase Forward<T>(string dtype, int m, int n, int k)
        where T : unmanaged =>
        new($"Matmul.Forward {dtype}", $"{m}x{n}x{k}", Matmul.ForwardCost(m, n, k, dtype == "bf16" ? 2 : 4), p =>
        {
            var (x, w, y) = (p.Random<T>(m, k), p.Random<T>(n, k), p.Output<T>("y", m, n));
            return stream => Matmul.Forward(stream, x, w, default, y);
        });

    private static PerfCase ForwardRows<T>(string dtype, int m, int n, int k)
        where T : unmanaged =>
        new($"Matmul.ForwardRows {dtype}", $"{m}x{n}x{k}", Matmul.ForwardCost(m, n, k, dtype == "bf16" ? 2 : 4), p =>
        {
            var (x, w, y) = (p.Random<T>(m, k), p.Random<T>(n, k), p.Output<T>("y", m, n));
            return stream => Matmul.ForwardRows(stream, x, w, default, y);
        });
}
