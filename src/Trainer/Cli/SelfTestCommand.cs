using System.CommandLine;
using System.Text.Json;
using Z1Coder.Perf;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 selftest --device cuda --golden DIR</summary>
internal static class SelfTestCommand
{
    public static Command Create()
    {
        var device = Devices.Option();
        var golden = new Option<string>("--golden") { Description = "golden values: tests/golden, or a fuller set of the same layout", DefaultValueFactory = _ => "tests/golden" };
        var size = new Option<string>("--size") { Description = "sizes of the kernel checks: small, or gpu for real ones too", DefaultValueFactory = _ => "small" };
        size.AcceptOnlyFromAmong("small", "gpu");
        var output = new Option<string?>("--out") { Description = "write the results there as JSON" };
        var command = new Command(
            "selftest", "Proves a device: every kernel against the CPU code, a model against PyTorch's values, 20 training steps, two runs in equal bits.")
        {
            device, golden, size, output,
        };
        command.Subcommands.Add(CollectivesTestCommand.Create());
        command.SetAction(parsed =>
        {
            var folder = parsed.GetValue(golden)!;
            if (!Directory.Exists(folder))
            {
                throw new InvalidInputException($"{folder}: no such directory; --golden names the golden values");
            }

            using var stream = Devices.Open(parsed.GetValue(device)!);
            var results = new List<SelfTestResult>();
            PerfSize[] sizes = parsed.GetValue(size) == "gpu" ? [PerfSize.Small, PerfSize.Gpu] : [PerfSize.Small];
            var kernels = sizes.SelectMany(PerfSuite.Kernels).Select(c => KernelChecker.Check(stream, c));
            foreach (var result in kernels.Concat(GoldenSelfTest.Run(stream, folder)))
            {
                results.Add(result);
                Console.WriteLine($"{result.Verdict,-8}{result.Name,-76}{result.Detail}");
            }

            var (failed, skipped) = (results.Count(r => r.Passed == false), results.Count(r => r.Passed is null));
            Console.WriteLine($"{results.Count - failed - skipped} passed, {failed} failed, {skipped} skipped on {stream.DeviceName}");
            if (parsed.GetValue(output) is { } path)
            {
                Write(path, stream.DeviceName, results);
            }

            return failed == 0 ? 0 : 1;
        });
        return command;
    }

    private static void Write(string path, string device, List<SelfTestResult> results)
    {
        using var file = File.Create(path);
        using var json = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        Write(json, device, results);
        json.WriteEndObject();
    }

    /// <summary>Writes the properties `device` and `results`.</summary>
    internal static void Write(Utf8JsonWriter json, string device, List<SelfTestResult> results)
    {
        json.WriteString("device", device);
        json.WriteStartArray("results");
        foreach (var result in results)
        {
            json.WriteStartObject();
            json.WriteString("name", result.Name);
            json.WriteString("verdict", result.Verdict);
            json.WriteString("detail", result.Detail);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }
}
