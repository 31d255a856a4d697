using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Attention at the shapes of training (packed documents) and of decoding. Run with one and with two workers.</summary>
public static class AttentionPerf
{
    private static readonly (string Name, int[] Lengths)[] s_batches =
    [
        ("512 = 6 docs", [50, 120, 62, 96, 134, 50]),
        ("1280 = 6 docs", [400, 180, 90, 320, 210, 80]),
        ("1280 = 1 doc", [1280]),
    ];

    private static readonly (int Heads, int KvHeads, int HeadDim)[] s_heads = [(4, 2, 64), (8, 2, 64), (14, 2, 64), (12, 2, 128)];

    /// <summary>Forward and backward per shape and dtype, then decode.</summary>
    public static IEnumerable<PerfCase> Cases()
    {
        foreach (var heads in s_heads)
        {
            foreach (var batch in s_batches)
            {
                yield return Forward<float>(batch.Name, batch.Lengths, heads);
                yield return Backward<float>(batch.Name, batch.Lengths, heads);
                yield return Forward<BFloat16>(batch.Name, batch.Lengths, heads);
                yield return Backward<BFloat16>(batch.Name, batch.Lengths, heads);
            }

            yield return Decode<BFloat16>(1, 1000, heads);
            yield return Decode<BFloat16>(16, 400, heads);
        }
    }

    private static PerfCase Forward<T>(string name, int[] lengths, (int N, int K, int H) heads)
        where T : unmanaged
    {
        var ends = Ends(lengths);
        var (n, k, h) = heads;
        return new($"Attention.Forward {Dtype<T>()}", Shape(name, heads), Attention.ForwardCost(ends, n, k, h, Size<T>()), inputs =>
        {
            var qkv = inputs.Random<T>(ends[^1], (n + (2 * k)) * h);
            var o = inputs.Empty<T>(ends[^1], n * h);
            var lse = inputs.Empty<float>(ends[^1], n);
            var workspace = Workspace(ends, heads, backward: false);
            return stream => Attention.Forward(stream, qkv, o, lse, n, k, h, workspace);
        });
    }

    private static PerfCase Backward<T>(string name, int[] lengths, (int N, int K, int H) heads)
        where T : unmanaged
    {
        var ends = Ends(lengths);
        var (n, k, h) = heads;
        return new($"Attention.Backward {Dtype<T>()}", Shape(name, heads), Attention.BackwardCost(ends, n, k, h, Size<T>()), inputs =>
        {
            var qkv = inputs.Random<T>(ends[^1], (n + (2 * k)) * h);
            var d = inputs.Random<T>(ends[^1], n * h);
            var o = inputs.Empty<T>(ends[^1], n * h);
            var lse = inputs.Empty<float>(ends[^1], n);
            var dqkv = inputs.Empty<T>(ends[^1], (n + (2 * k)) * h);
            var workspace = Workspace(ends, heads, backward: true);
            using (var once = new CpuStream(1))
            {
                Attention.Forward(once, qkv, o, lse, n, k, h, workspace);
            }

            return stream => Attention.Backward(stream, d, qkv, o, lse, dqkv, n, k, h, workspace);
        });
    }

    private static PerfCase Decode<T>(int rows, int length, (int N, int K, int H) heads)
        where T : unmanaged
    {
        int[] lengths = [.. Enumerable.Repeat(length, rows)];
        var (n, k, h) = heads;
        var cost = Attention.DecodeCost(lengths, n, k, h, Size<T>());
        return new($"Attention.Decode {Dtype<T>()}", Shape($"{rows} rows x {length}", heads), cost, inputs =>
        {
            var q = inputs.Random<T>(rows, n * h);
            var keys = inputs.Random<T>(rows, length, k * h);
            var values = inputs.Random<T>(rows, length, k * h);
            var o = inputs.Empty<T>(rows, n * h);
            var slots = inputs.Ints([.. Enumerable.Range(0, rows)]);
            var present = inputs.Ints(lengths);
            var workspace = Workspace([0], heads, backward: false);
            return stream => Attention.Decode(stream, q, keys, values, slots, present, o, n, k, h, workspace);
        });
    }

    private static AttentionWorkspace Workspace(int[] ends, (int N, int K, int H) heads, bool backward)
    {
        var arena = new Arena("attention workspace");            // lives as long as the workspace's tensors refer to it
        var workspace = new AttentionWorkspace(arena, Environment.ProcessorCount, ends[^1], heads.N, heads.K, heads.H, backward);
        arena.Allocate();
        using var stream = new CpuStream(1);
        workspace.Load(stream, ends);
        return workspace;
    }

    private static int[] Ends(int[] lengths) => [0, .. lengths.Select((_, s) => lengths[..(s + 1)].Sum())];

    private static string Shape(string name, (int N, int K, int H) heads) => $"{name}, {heads.N}/{heads.K} heads of {heads.H}";

    private static string Dtype<T>() => typeof(T) == typeof(float) ? "fp32" : "bf16";

    private static int Size<T>() => typeof(T) == typeof(float) ? 4 : 2;
}
