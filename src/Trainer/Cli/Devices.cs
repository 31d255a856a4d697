using System.CommandLine;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Cli;

/// <summary>The --device option: where a verb runs.</summary>
internal static class Devices
{
    private const string Search = "Z1_GEMM_SEARCH";

    public static Option<string> Option()
    {
        var option = new Option<string>("--device")
        {
            Description = "cpu, cuda (cuda:1 for the second GPU), or hostcuda (the CUDA code on this CPU: slow, for checking)",
            DefaultValueFactory = _ => "cpu",
        };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && !ComputeStream.IsDeviceName(result.Tokens[0].Value))
            {
                result.AddError($"--device {result.Tokens[0].Value}: must be cpu, cuda, cuda:N or hostcuda");
            }
        });
        return option;
    }

    /// <summary>The stream of a device; disposing it gives the device back.</summary>
    public static ComputeStream Open(string name)
    {
        var stream = ComputeStream.Open(name);
        if (stream is CudaStream && Environment.GetEnvironmentVariable(Search) == "1")
        {
            Matmul.Tuning = new MatmulTuning { Search = true, CacheDirectory = Matmul.DefaultCacheDirectory };
        }

        return stream;
    }
}
