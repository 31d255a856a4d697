using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Attention at the shapes of training (packed documents) and of decoding. Run with one and with two workers.</summary>
public static class AttentionPerf
{
    private static readonly (string Name, int[] Lengths)[] s_documents =
    [
        ("512 = 6 docs", [50, 120, 62, 96, 134, 50]),
        ("1280 = 6 docs", [400, 180, 90, 320, 210, 80]),
        ("1280 = 1 doc", [1280]),
    ];

    /// <summary>Forward and backward per shape and dtype, then decode.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        (int Heads, int KvHeads, int HeadDim)[] heads = size switch
        {
            PerfSize.Small => [(2, 1, 64), (3, 1, 128), (4, 2, 16)],
            PerfSize.Cpu => [(4, 2, 64), (8, 2, 64), (14, 2, 64), (12, 2, 128)],
            _ => [(14, 2, 64), (12, 2, 128), (28, 4, 128)],
        };
        (string Name, int[] Lengths)[] batches = size switch
        {
            PerfSize.Small => [("90 = 4 docs", [1, 63, 25, 1])],
            PerfSize.Cpu => s_documents,
            _ => [("10240 = 8 docs", [.. Enumerable.Repeat(1280, 8)]), ("10240 = 32 docs", [.. Enumerable.Repeat(320, 32)]), ("8192 = 2 docs", [4096, 4096])],
        };
        foreach (var shape in heads)
        {
            foreach (var batch in batches)
            {
                yield return Forward<BFloat16>(batch.Name, batch.Lengths, shape);
                yield return Backward<BFloat16>(batch.Name, batch.Lengths, shape);
                if (size == PerfSize.Cpu)
                {
                    yield return Forward<float>(batch.Name, batch.Lengths, shape);
                    yield return Backward<float>(batch.Name, batch.Lengths, shape);
                }
            }

            yield return Decode<BFloat16>(1, size == PerfSize.Small ? 37 : 1000, shape);
            yield return Decode<BFloat16>(size == PerfSize.Small ? 3 : 16, size == PerfSize.Small ? 9 : 400, shape);
        }
    }

    /// <summary>Forward and backward of one batch, for the search for tile sizes.</summary>
    internal static IEnumerable<PerfCase> CasesFor((int N, int K, int H) heads, int[] lengths) =>
        [Forward<BFloat16>("tuning", lengths, heads), Backward<BFloat16>("tuning", lengths, heads)];

    private static PerfCase Forward<T>(string name, int[] lengths, (int N, int K, int H) heads)
        where T : unmanaged
    {
        var ends = Ends(lengths);
        var (n, k, h) = heads;
        return new($"Attention.Forward {Dtype<T>()}", Shape(name, heads), Attention.ForwardCost(ends, n, k, h, Size<T>()), inputs =>
        {
            var qkv = inputs.Random<T>(ends[^1], (n + (2 * k)) * h);
            var o = inputs.Output<T>("o", ends[^1], n * h);
            var lse = inputs.Output<float>("lse", ends[^1], n);
            var workspace = Workspace(inputs, ends, heads, backward: false);
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
            var dqkv = inputs.Output<T>("dqkv", ends[^1], (n + (2 * k)) * h);
            var workspace = Workspace(inputs, ends, heads, backward: true);
            Attention.Forward(inputs.Stream, qkv, o, lse, n, k, h, workspace);
            return stream => Attention.Backward(stream, d, qkv, o, lse, dqkv, n, k, h, workspace);
        },
        Roundings: 4);         // a device rounds probabilities and score gradients too
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
            var o = inputs.Output<T>("o", rows, n * h);
            var slots = inputs.Ints([.. Enumerable.Range(0, rows)]);
            var present = inputs.Ints(lengths);
            var workspace = Workspace(inputs, [0], heads, backward: false);
            return stream => Attention.Decode(stream, q, keys, values, slots, present, o, n, k, h, workspace);
        });
    }

    private static AttentionWorkspace Workspace(PerfInputs inputs, int[] ends, (int N, int K, int H) heads, bool backward)
    {
        var workspace = inputs.Declare(
            arena => new AttentionWorkspace(arena, (inputs.Stream as CpuStream)?.Workers ?? 1, ends[^1], heads.N, heads.K, heads.H, backward));
        workspace.Load(inputs.Stream, ends);
        return workspace;
    }

    private static int[] Ends(int[] lengths) => [0, .. lengths.Select((_, s) => lengths[..(s + 1)].Sum())];

    private static string Shape(string name, (int N, int K, int H) heads) => $"{name}, {heads.N}/{heads.K} heads of {heads.H}";

    private static string Dtype<T>() => typeof(T) == typeof(float) ? "fp32" : "bf16";

    private static int Size<T>() => typeof(T) == typeof(float) ? 4 : 2;
}
