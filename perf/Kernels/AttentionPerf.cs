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

    /// <summary>Forward and backward per shape and dtype, then new tokens and prompts in pages.</summary>
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

            foreach (var (rows, context) in size switch
            {
                PerfSize.Small => ((int, int)[])[(2, 150), (3, 9)],
                PerfSize.Cpu => [(1, 1000), (8, 400)],
                _ => [(1, 1000), (8, 1000), (64, 1000)],
            })
            {
                yield return Paged<BFloat16>(
                    $"{rows} new at {context}", [.. Enumerable.Repeat(1, rows)], [.. Enumerable.Repeat(context, rows)], decode: true, shape);
            }

            yield return size switch
            {
                PerfSize.Small => Paged<BFloat16>("69 at 3, 5 at 0", [69, 5], [3, 0], decode: false, shape),
                PerfSize.Cpu => Paged<BFloat16>("28 at 384, 100 at 0", [28, 100], [384, 0], decode: false, shape),
                _ => Paged<BFloat16>("624 at 1024, 400 at 0", [624, 400], [1024, 0], decode: false, shape),
            };
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

    private static PerfCase Paged<T>(string name, int[] rows, int[] contexts, bool decode, (int N, int K, int H) heads)
        where T : unmanaged
    {
        const int PageTokens = 64;
        var (n, k, h) = heads;
        var starts = Ends(rows);
        var pagesEach = (rows.Zip(contexts, (r, c) => r + c).Max() + PageTokens - 1) / PageTokens;
        var pages = rows.Length * pagesEach;
        var cost = Attention.PagedCost(starts, contexts, n, k, h, Size<T>());
        return new($"Attention.Paged {Dtype<T>()}", Shape(name, heads), cost, inputs =>
        {
            var q = inputs.Random<T>(starts[^1], n * h);
            var keys = inputs.Random<T>(pages, PageTokens, k * h);
            var values = inputs.Random<T>(pages, PageTokens, k * h);
            var o = inputs.Output<T>("o", starts[^1], n * h);
            var table = inputs.Ints([.. Enumerable.Range(0, pages).Select(i => pages - 1 - i)]).Reshape(rows.Length, pagesEach);
            var workspace = inputs.Declare(arena => new AttentionWorkspace(
                arena, (inputs.Stream as CpuStream)?.Workers ?? 1, 0, n, k, h, backward: false, pagedRows: starts[^1], pagedSequences: rows.Length));
            workspace.LoadPaged(inputs.Stream, starts, contexts, decode);
            return stream => Attention.Paged(stream, q, keys, values, table, o, n, k, h, workspace);
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
