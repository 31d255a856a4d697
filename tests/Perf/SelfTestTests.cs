using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Perf;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;
using Z1Coder.Trainer.Cli;

namespace Z1Coder.Tests.Perf;

/// <summary>What `z1 selftest` and `z1 kernels check` say of hostcuda, and that they can say no.</summary>
[Collection("hostcuda")]
public sealed class SelfTestTests
{
    public static TheoryData<string> Families =>
        [.. PerfSuite.Kernels(PerfSize.Small).Select(c => c.Name.Split('.')[0]).Distinct()];

    public static TheoryData<string> Models => [.. Goldens.Models];

    [Theory]
    [MemberData(nameof(Families))]
    public void Every_kernel_agrees_with_the_CPU_code(string family)
    {
        using var stream = new CudaStream(KernelDevices.HostCuda);
        foreach (var perfCase in PerfSuite.Kernels(PerfSize.Small).Where(c => c.Name.StartsWith(family + '.', StringComparison.Ordinal)))
        {
            var result = KernelChecker.Check(stream, perfCase);
            Assert.True(result.Passed, $"{result.Name}: {result.Detail}");
        }
    }

    [Fact]
    public void Cases_of_every_size_name_what_they_compute_and_cost()
    {
        foreach (var size in Enum.GetValues<PerfSize>())
        {
            Assert.All(PerfSuite.Kernels(size), c => Assert.True(c.Cost.Bytes > 0, c.Name));
            Assert.Equal(PerfSuite.Kernels(size).Count(), PerfSuite.Kernels(size).Select(c => $"{c.Name} {c.Shape}").Distinct().Count());
        }
    }

    [Fact]
    public void A_check_says_how_many_cases_are_not_for_a_device()
    {
        using var stream = new CudaStream(KernelDevices.HostCuda);
        var said = new StringWriter();
        Assert.False(KernelsCommand.CheckAll(stream, PerfSize.Cpu, ["RmsNorm", "fp32"], said));
        Assert.Contains("0 of 0 kernels", said.ToString(), StringComparison.Ordinal);
        Assert.Contains("; 3 fp32 cases are the CPU's alone", said.ToString(), StringComparison.Ordinal);
        Assert.True(KernelsCommand.CheckAll(stream, PerfSize.Small, ["GlobalNorm"], said));
    }

    [Theory]
    [InlineData(0.0, true)]
    [InlineData(0.01, false)]           // the bound of 1 is 2 roundings of 2^-8 on 1 and on the rms of 1
    [InlineData(0.02, false)]
    [InlineData(double.NaN, false)]
    public void The_checker_refuses_what_is_outside_the_bound(double error, bool passes)
    {
        using var stream = new CpuStream(1);
        var perfCase = new PerfCase("Planted.Forward bf16", "64", default, p =>
        {
            var y = p.Output<float>("y", 64);
            return s => y.Span.Fill(1 + (s == stream ? (float)error : 0));
        });
        Assert.Equal(passes, KernelChecker.Check(stream, perfCase).Passed);
        var silent = perfCase with { Prepare = p => _ => { } };
        Assert.False(KernelChecker.Check(stream, silent).Passed);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void The_model_trains_on_hostcuda_as_in_PyTorch(string name)
    {
        // The whole curve of one model; what the others differ in (an untied head, other shapes) is in their first steps too. On a GPU z1 selftest runs all.
        using var stream = new CudaStream(KernelDevices.HostCuda);
        var steps = name == Goldens.Models.First() ? int.MaxValue : 5;
        var results = GoldenSelfTest.OnePass(stream, Goldens.Model(name)).Concat(GoldenSelfTest.Curve(stream, Goldens.Model(name), steps)).ToList();
        Assert.All(results, r => Assert.True(r.Passed != false, $"{r.Name}: {r.Detail}"));
        Assert.True(results.Count(r => r.Passed == true) >= 3);
    }
}
