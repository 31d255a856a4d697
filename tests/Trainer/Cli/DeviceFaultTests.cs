using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>A device that fails in the middle of a run: z1 says which kernel, ends, and the checkpoint on disk is whole.</summary>
public sealed class DeviceFaultTests
{
    private const string LaunchFailed = "719";

    [Fact]
    public void A_sticky_error_ends_the_run_with_a_sentence_and_the_run_resumes_bit_for_bit()
    {
        if (!CudaDevice.IsAvailable(CudaDriver.HostCuda, out var reason))
        {
            Assert.Skip(reason);
        }

        using var tiny = new TinyRun();
        tiny.KeepOneStage(6);
        Z1.Run(tiny.Train("whole", "--device", "hostcuda")).Succeeded();

        // How many launches a run has is the model's business. The checkpoint, written in place, lies in its middle: growing by half meets the second half.
        string[] inPlace = ["--set", "checkpoint.async=false"];
        var output = "";
        for (var launches = 300; output.Length == 0; launches += launches / 2)
        {
            var name = $"fault {launches}";
            var failed = Z1.RunWith("Z1_HOSTCUDA_INJECT", $"cuLaunchKernel:{launches}:{LaunchFailed}", tiny.Train(name, [.. inPlace, "--device", "hostcuda"]));
            failed.FailedWith("CUDA_ERROR_LAUNCH_FAILED (719)", "injected into cuLaunchKernel", "launched last: ", "Z1_SYNC=1 names the guilty kernel");
            if (failed.Output.Contains("step 3 saved", StringComparison.Ordinal))
            {
                output = name;
            }
        }

        Z1.Run(tiny.Train(output, [.. inPlace, "--device", "hostcuda", "--resume"])).Succeeded();
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics(output, "stage1"));
        Assert.Equal(Model("whole"), Model(output));

        byte[] Model(string run) => File.ReadAllBytes(Path.Combine(tiny[run], "stage1", "model", "model.safetensors"));
    }

    [Fact]
    public void Too_little_device_memory_is_said_with_figures()
    {
        if (!CudaDevice.IsAvailable(CudaDriver.HostCuda, out var reason))
        {
            Assert.Skip(reason);
        }

        using var tiny = new TinyRun();
        var failed = Z1.RunWith("Z1_HOSTCUDA_MEMORY", "100000", tiny.Train("small", "--device", "hostcuda"));
        Assert.Equal(1, failed.ExitCode);
        Assert.Contains("100,000", failed.Error, StringComparison.Ordinal);
    }
}
