using System.Text.Json;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>
/// Compiles every device kernel with the real NVRTC, no GPU needed, and compares what ptxas reports with kernel-budget.json: registers and
/// static shared memory may not grow, and nothing may spill. Z1_UPDATE_BUDGET=1 rewrites the table.
/// </summary>
public sealed class KernelBudgetTests
{
    private static readonly JsonSerializerOptions s_indented = new() { WriteIndented = true };

    private static string File => Path.Combine(Goldens.RepositoryRoot, "tests", "Kernels", "kernel-budget.json");

    [Fact]
    public void Every_variant_compiles_without_spills_and_within_its_budget()
    {
        RequireNvrtc();
        var found = new SortedDictionary<string, SortedDictionary<string, Budget>>(StringComparer.Ordinal);
        var wrong = new List<string>();
        foreach (var kernel in KernelCatalog.All)
        {
            var variant = found[kernel.ToString()] = new(StringComparer.Ordinal);
            foreach (var architecture in KernelCatalog.ArchitecturesOf(kernel))
            {
                var image = KernelCompiler.CompileFor(architecture, kernel.Source, kernel.Constants);
                var used = image.Resources.SingleOrDefault(r => r.Entry == kernel.Entry);
                if (used is null)
                {
                    wrong.Add($"{kernel} {architecture}: {kernel.Stem}.cu has no such entry point");
                    continue;
                }

                variant[architecture] = new(used.Registers, used.SharedBytes);
                if (used.SpillStoreBytes + used.SpillLoadBytes + used.StackBytes > 0)
                {
                    wrong.Add($"{kernel} {architecture}: spills {used.SpillStoreBytes} bytes, stack {used.StackBytes} bytes");
                }
            }
        }

        Assert.True(wrong.Count == 0, string.Join(Environment.NewLine, wrong));
        if (Environment.GetEnvironmentVariable("Z1_UPDATE_BUDGET") == "1")
        {
            System.IO.File.WriteAllText(File, JsonSerializer.Serialize(found, s_indented) + "\n");
            Assert.Skip("kernel-budget.json was rewritten; nothing was compared");
        }

        var beyond = Beyond(Read(), found);
        Assert.True(beyond.Count == 0, string.Join(Environment.NewLine, beyond));
    }

    [Fact]
    public void Every_device_file_is_in_the_catalog() =>
        Assert.Equal(NativeSources.Stems, KernelCatalog.All.Select(k => k.Stem).Distinct().Order(StringComparer.Ordinal));

    [Fact]
    public void No_variant_is_listed_twice() =>
        Assert.Empty(KernelCatalog.All.GroupBy(k => k.ToString()).Where(g => g.Count() > 1).Select(g => g.Key));

    [Fact]
    public void What_is_missing_or_beyond_the_budget_is_named()
    {
        var found = Table(("a", 32, 0), ("b", 40, 0));
        Assert.Empty(Beyond(Table(("a", 32, 0), ("b", 64, 16)), found));
        Assert.Equal(["b sm_80: not in kernel-budget.json"], Beyond(Table(("a", 32, 0)), found));
        Assert.Equal(["a sm_80: 32 registers, budget 31"], Beyond(Table(("a", 31, 0), ("b", 40, 0)), found));
        Assert.Equal(["b sm_80: 4 bytes of static shared memory, budget 0"], Beyond(Table(("b", 40, 0)), Table(("b", 40, 4))));
        Assert.Equal(["c: in kernel-budget.json, not in the catalog"], Beyond(Table(("a", 32, 0), ("b", 40, 0), ("c", 1, 0)), found));
    }

    [Fact]
    public void A_spill_is_seen()
    {
        RequireNvrtc();
        const string Text = """
            #include "z1.cuh"
            struct P { float* x; };
            Z1_KERNEL(1024, 2, spilling, P) {
              float v[96];
              for (int i = 0; i < 96; ++i) v[i] = p.x[i * 1024 + threadIdx.x];
              ptx::sync_threads();
              float sum = 0;
              for (int i = 0; i < 96; ++i) { sum = sum * v[i] + v[95 - i]; p.x[i * 1024 + threadIdx.x] = sum; }
            }
            """;
        var source = new KernelSource("Spilling", name => name == "Spilling.cu" ? Text : NativeSources.Read(name));
        Assert.True(KernelCompiler.CompileFor("sm_80", source).Resources.Single().SpillStoreBytes > 0);
    }

    private static void RequireNvrtc()
    {
        if (!KernelCompiler.HasNvrtc(out var reason))
        {
            Assert.Skip(reason);
        }
    }

    private static SortedDictionary<string, SortedDictionary<string, Budget>> Read() =>
        JsonSerializer.Deserialize<SortedDictionary<string, SortedDictionary<string, Budget>>>(System.IO.File.ReadAllText(File))!;

    private static List<string> Beyond(
        SortedDictionary<string, SortedDictionary<string, Budget>> budget, SortedDictionary<string, SortedDictionary<string, Budget>> found)
    {
        var wrong = new List<string>();
        foreach (var (kernel, variants) in found)
        {
            foreach (var (architecture, used) in variants)
            {
                if (!budget.TryGetValue(kernel, out var known) || !known.TryGetValue(architecture, out var allowed))
                {
                    wrong.Add($"{kernel} {architecture}: not in kernel-budget.json");
                    continue;
                }

                if (used.Registers > allowed.Registers)
                {
                    wrong.Add($"{kernel} {architecture}: {used.Registers} registers, budget {allowed.Registers}");
                }

                if (used.SharedBytes > allowed.SharedBytes)
                {
                    wrong.Add($"{kernel} {architecture}: {used.SharedBytes} bytes of static shared memory, budget {allowed.SharedBytes}");
                }
            }
        }

        wrong.AddRange(budget.Keys.Where(k => !found.ContainsKey(k)).Select(k => $"{k}: in kernel-budget.json, not in the catalog"));
        return wrong;
    }

    private static SortedDictionary<string, SortedDictionary<string, Budget>> Table(params (string Kernel, int Registers, int Shared)[] rows) =>
        new(rows.ToDictionary(
            r => r.Kernel, r => new SortedDictionary<string, Budget> { ["sm_80"] = new(r.Registers, r.Shared) }, StringComparer.Ordinal));

    private sealed record Budget(int Registers, int SharedBytes);
}
