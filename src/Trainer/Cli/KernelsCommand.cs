using System.CommandLine;
using Z1Coder.Kernels;
using Z1Coder.Perf;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 kernels list | check | bench | tune</summary>
internal static class KernelsCommand
{
    public static Command Create() => new(
        "kernels",
        """
        Lists, checks, times and tunes the kernels of a device.

          z1 kernels check --device hostcuda --only RmsNorm      the CUDA code on this CPU against the CPU code
          z1 kernels bench --only SwiGlu
          z1 kernels tune --device cuda --head-dim 128
        """) { List(), Check(), Bench(), Tune() };

    /// <summary>The sizes that suit a device.</summary>
    public static PerfSize SizeFor(ComputeStream stream) => stream switch
    {
        CpuStream => PerfSize.Cpu,
        CudaStream { Device.IsHostCuda: true } => PerfSize.Small,
        _ => PerfSize.Gpu,
    };

    /// <summary>The cases that contain every word.</summary>
    /// <exception cref="UsageException">none does</exception>
    public static IReadOnlyList<PerfCase> Choose(IEnumerable<PerfCase> cases, string[] words)
    {
        var chosen = cases.Where(c => words.All(w => Matches(c, w))).ToList();
        return chosen.Count > 0 ? chosen : throw new UsageException($"no kernel case contains '{string.Join("' and '", words)}'; z1 kernels list names them");
    }

    /// <summary>Whether a word is a part of the case's name or shape.</summary>
    public static bool Matches(PerfCase which, string word) => $"{which.Name} {which.Shape}".Contains(word, StringComparison.OrdinalIgnoreCase);

    private static Command List()
    {
        var size = SizeOption();
        var json = new Option<bool>("--json") { Description = "as JSON" };
        var command = new Command("list", "Every case with its floor: bytes and operations; and every device kernel with its constants.") { size, json };
        command.SetAction(parsed =>
        {
            var cases = PerfSuite.Kernels(SizeNamed(parsed.GetValue(size)!)).ToList();
            if (parsed.GetValue(json))
            {
                CliJson.Write(writer =>
                {
                    writer.WriteStartArray("cases");
                    foreach (var c in cases)
                    {
                        writer.WriteStartObject();
                        writer.WriteString("name", c.Name);
                        writer.WriteString("shape", c.Shape);
                        writer.WriteNumber("bytes", c.Cost.Bytes);
                        writer.WriteNumber("flops", c.Cost.Flops);
                        writer.WriteEndObject();
                    }

                    writer.WriteEndArray();
                    writer.WriteStartArray("device_kernels");
                    foreach (var kernel in KernelCatalog.All)
                    {
                        writer.WriteStringValue($"{kernel.Stem}.cu {kernel}");
                    }

                    writer.WriteEndArray();
                });
                return 0;
            }

            Console.WriteLine($"{"case",-40}{"shape",-34}{"MB",10}{"GFLOP",10}");
            cases.ForEach(c => Console.WriteLine($"{c.Name,-40}{c.Shape,-34}{c.Cost.Bytes / 1e6,10:F2}{c.Cost.Flops / 1e9,10:F2}"));
            Console.WriteLine();
            foreach (var kernel in KernelCatalog.All)
            {
                Console.WriteLine($"{kernel.Stem + ".cu",-22}{kernel}");
            }

            return 0;
        });
        return command;
    }

    private static Command Check()
    {
        var device = Devices.Option();
        var size = SizeOption();
        var only = OnlyOption();
        var json = new Option<bool>("--json") { Description = "the results as JSON" };
        var command = new Command("check", "Every kernel against the CPU code on the same inputs; exit code 1 when one is outside its bound.") { device, size, only, json };
        command.SetAction(parsed =>
        {
            using var stream = Devices.Open(parsed.GetValue(device)!);
            var asJson = parsed.GetValue(json);
            var results = new List<SelfTestResult>();
            var passed = CheckAll(stream, SizeNamed(parsed.GetValue(size)!), parsed.GetValue(only)!, asJson ? TextWriter.Null : Console.Out, results.Add);
            if (asJson)
            {
                CliJson.Write(writer => SelfTestCommand.Write(writer, stream.DeviceName, results));
            }

            return passed ? 0 : 1;
        });
        return command;
    }

    /// <summary>Checks and prints; false when any failed, or none was left to check.</summary>
    public static bool CheckAll(ComputeStream stream, PerfSize size, string[] words, TextWriter output, Action<SelfTestResult>? checkedOne = null)
    {
        var failed = 0;
        var all = Choose(PerfSuite.Kernels(size), words);
        var chosen = all.Where(c => stream is CpuStream || !IsOfTheCpuAlone(c)).ToList();
        foreach (var perfCase in chosen)
        {
            var result = KernelChecker.Check(stream, perfCase);
            failed += result.Passed == false ? 1 : 0;
            checkedOne?.Invoke(result);
            output.WriteLine($"{result.Verdict,-8}{result.Name,-76}{result.Detail}");
        }

        var left = all.Count - chosen.Count;
        output.WriteLine(
            $"{chosen.Count - failed} of {chosen.Count} kernels within their bounds on {stream.DeviceName}"
            + (left > 0 ? $"; {left} fp32 cases are the CPU's alone and were left out" : ""));
        return failed == 0 && chosen.Count > 0;
    }

    /// <summary>Device kernels are for bfloat16; the gradient norm reads fp32 everywhere.</summary>
    private static bool IsOfTheCpuAlone(PerfCase perfCase) =>
        perfCase.Name.EndsWith(" fp32", StringComparison.Ordinal) && !perfCase.Name.StartsWith("GlobalNorm", StringComparison.Ordinal);

    private static Command Bench()
    {
        var device = Devices.Option();
        var only = OnlyOption();
        var json = new Option<bool>("--json") { Description = "what 'z1 perf run --suite kernels --out FILE' writes" };
        var command = new Command("bench", "Times kernels against the roofs of the same run; 'z1 perf run --suite kernels --out FILE' keeps the figures.") { device, only, json };
        command.SetAction(parsed =>
        {
            using var stream = Devices.Open(parsed.GetValue(device)!);
            var asJson = parsed.GetValue(json);
            var rows = PerfCommand.RunKernels(stream, parsed.GetValue(only)!, asJson ? TextWriter.Null : Console.Out);
            if (asJson)
            {
                CliJson.Write(PerfCommand.Report(stream, rows).Write);
            }

            return rows.Any(r => r.ManagedBytes > 0) ? 1 : 0;
        });
        return command;
    }

    private static Command Tune()
    {
        var device = Devices.Option();
        (device.DefaultValueFactory, device.Required) = (null, true);
        device.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && result.Tokens[0].Value == "cpu")
            {
                result.AddError("--device cpu: kernels of a CPU have no tile sizes to choose; cuda, or hostcuda to see it work");
            }
        });
        var headDim = new Option<int>("--head-dim") { Description = "attention's head dim", DefaultValueFactory = _ => 128 };
        var command = new Command(
            "tune", "Searches the tile sizes of attention: each candidate is checked before it is timed; the winner is stored for this device and head dim.")
        {
            device, headDim,
        };
        PlanCommand.Within(headDim, 8, 128);
        headDim.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && int.TryParse(result.Tokens[0].Value, out var value) && value % 8 != 0)
            {
                result.AddError($"--head-dim {value}: must be a multiple of 8");
            }
        });
        command.SetAction(parsed =>
        {
            using var stream = Devices.Open(parsed.GetValue(device)!);
            AttentionTuner.Tune((CudaStream)stream, parsed.GetValue(headDim), Console.Out);
            return 0;
        });
        return command;
    }

    private static Option<string[]> OnlyOption() => new("--only")
    {
        Description = "a part of name or shape (repeatable: all must match)",
        AllowMultipleArgumentsPerToken = true,
        DefaultValueFactory = _ => [],
    };

    private static Option<string> SizeOption()
    {
        var option = new Option<string>("--size") { Description = "small, cpu or gpu", DefaultValueFactory = _ => "small" };
        option.AcceptOnlyFromAmong("small", "cpu", "gpu");
        return option;
    }

    private static PerfSize SizeNamed(string name) => name switch { "cpu" => PerfSize.Cpu, "gpu" => PerfSize.Gpu, _ => PerfSize.Small };
}
