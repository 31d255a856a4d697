using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>--device, as a user meets it: the CUDA code on hostcuda.</summary>
public sealed class DeviceTests
{
    [Fact]
    public void A_run_on_hostcuda_learns_what_the_CPU_learns_survives_a_kill_and_traces_its_steps()
    {
        RequireHostCuda();
        using var tiny = new TinyRun();
        tiny.KeepOneStage(8);
        var trace = tiny["trace.json"];
        Z1Here.Run(tiny.Train("whole", "--device", "hostcuda", "--profile", trace)).Succeeded();
        Z1Here.Run(tiny.Train("cpu")).Succeeded();
        var (device, host) = (Losses(tiny, "whole"), Losses(tiny, "cpu"));
        Assert.Equal(8, device.Count);
        for (var i = 0; i < device.Count; i++)
        {
            Assert.True(Math.Abs(device[i] - host[i]) <= 2e-2 * host[i], $"step {i + 1}: {device[i]} and {host[i]}");      // as bf16 beside fp32 in TrainTests
        }

        using (var z1 = Z1.Start(tiny.Train("killed", "--device", "hostcuda")))
        {
            SpinWait.SpinUntil(() => z1.HasExited || Directory.Exists(Path.Combine(tiny["killed"], "stage1", "checkpoints", "step-00000003")), TimeSpan.FromSeconds(60));
            z1.Kill();
            z1.Wait();
        }

        Z1Here.Run(tiny.Train("killed", "--device", "hostcuda", "--resume")).Succeeded();
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics("killed", "stage1"));
        Assert.Equal(Model(tiny, "whole"), Model(tiny, "killed"));

        using var json = JsonDocument.Parse(File.ReadAllBytes(trace));
        var names = json.RootElement.GetProperty("traceEvents").EnumerateArray().Select(e => e.GetProperty("name").GetString()!).ToList();
        foreach (var expected in new[] { "forward", "backward", "optimizer", "rms_norm", "attention_forward", "adamw" })
        {
            Assert.Contains(names, n => n.Contains(expected, StringComparison.Ordinal));
        }

        var completion = Z1Here.Run("generate", "--model", Path.Combine(tiny["whole"], "stage1", "model"), "--device", "hostcuda", "--max-new-tokens", "4", "Add").Succeeded();
        Assert.NotEmpty(completion.Output);
    }

    [Fact]
    public void What_a_device_cannot_do_is_one_sentence()
    {
        using var tiny = new TinyRun();
        Z1Here.Run(tiny.Train("a", "--device", "gpu")).WasMisused("must be cpu, cuda, cuda:N or hostcuda");
        Z1Here.Run(tiny.Train("b", "--profile", tiny["trace.json"])).WasMisused("--profile traces a CUDA stream; give --device cuda too");
        RequireHostCuda();
        Z1Here.Run(tiny.Train("c", "--device", "hostcuda", "--set", "dtype=fp32")).FailedWith("dtype: fp32 runs on the CPU only", "dtype: bf16");
        Z1Here.Run("kernels", "check", "--device", "hostcuda", "--only", "no such kernel").WasMisused("no such kernel", "z1 kernels list");
    }

    [Fact]
    public void Kernels_are_listed_checked_and_tuned()
    {
        var list = Z1Here.Run("kernels", "list").Succeeded().Output;
        Assert.Contains("RmsNorm.Forward bf16", list);
        Assert.Contains("attention_forward (kHeadDim=128", list);
        RequireHostCuda();
        Assert.Contains("3 of 3 kernels within their bounds", Z1Here.Run("kernels", "check", "--device", "hostcuda", "--only", "RmsNorm", "--only", "13x33").Succeeded().Output);
        
        var tuned = Z1Here.Run("kernels", "tune", "--device", "hostcuda", "--head-dim", "16").Succeeded().Output;
        Assert.Contains("best: ", tuned);
        Assert.Contains("not stored", tuned);
    }

    [Fact]
    public void Checks_and_times_of_kernels_are_data_too()
    {
        using var tiny = new TinyRun();
        var check = Z1Here.Run("kernels", "check", "--only", "Argmax", "--json").Json();
        Assert.Equal(["device", "results"], check.EnumerateObject().Select(p => p.Name));
        Assert.NotEqual(0, check.GetProperty("results").GetArrayLength());
        Assert.All(check.GetProperty("results").EnumerateArray(), r => Assert.Equal("passed", r.GetProperty("verdict").GetString()));

        var bench = Z1Here.Run("kernels", "bench", "--only", "Argmax", "--json").Json();
        File.WriteAllText(tiny["bench.json"], bench.GetRawText());
        Assert.Contains("Argmax", Z1Here.Run("perf", "compare", tiny["bench.json"], tiny["bench.json"]).Succeeded().Output);
    }

    [Fact]
    public void Two_runs_of_perf_are_compared()
    {
        using var tiny = new TinyRun();
        var (first, slow) = (tiny["first.json"], tiny["slow.json"]);
        Z1Here.Run("perf", "run", "--suite", "kernels", "--only", "Argmax", "--out", first).Succeeded();
        Z1Here.Run("perf", "compare", tiny.Folder, first).FailedWith("is a directory; name one of its files");
        File.WriteAllText(tiny["other.json"], File.ReadAllText(first).Replace("\"machine\": \"", "\"machine\": \"another ", StringComparison.Ordinal));
        Z1Here.Run("perf", "compare", first, tiny["other.json"]).WasMisused("'another ", "--other-machine");
        Assert.Contains("of another ", Z1Here.Run("perf", "compare", first, tiny["other.json"], "--other-machine").Succeeded().Output);
        Assert.Contains("| same |", Z1Here.Run("perf", "compare", first, first, "--html", tiny["table.html"]).Succeeded().Output);
        Assert.StartsWith("<!doctype html>", File.ReadAllText(tiny["table.html"]));
        var text = File.ReadAllText(first);
        var p50 = JsonDocument.Parse(text).RootElement.GetProperty("rows")[0].GetProperty("p50_us").GetDouble();
        File.WriteAllText(slow, text.Replace($"\"p50_us\": {p50}", $"\"p50_us\": {p50 * 50}", StringComparison.Ordinal));
        var compared = Z1Here.Run("perf", "compare", first, slow);
        Assert.Equal(1, compared.ExitCode);
        Assert.Contains("| slower |", compared.Output);
    }

    private static void RequireHostCuda()
    {
        if (!CudaDevice.IsAvailable(CudaDriver.HostCuda, out var reason))
        {
            Assert.Skip(reason);
        }
    }

    private static byte[] Model(TinyRun tiny, string run) => File.ReadAllBytes(Path.Combine(tiny[run], "stage1", "model", "model.safetensors"));

    private static List<double> Losses(TinyRun tiny, string run) =>
    [
        .. File.ReadLines(Path.Combine(tiny[run], "stage1", "metrics.jsonl")).Select(l => JsonDocument.Parse(l).RootElement)
            .Where(j => j.GetProperty("type").GetString() == "step").Select(j => j.GetProperty("loss").GetDouble()),
    ];
}
