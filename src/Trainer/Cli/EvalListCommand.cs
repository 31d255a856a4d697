using System.CommandLine;
using System.Text.Json;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval list</summary>
internal static class EvalListCommand
{
    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "the list as JSON" };
        var command = new Command("list", "The benchmarks: what they ask, under which file names they are looked for, and where they come from.") { json };
        command.SetAction(parsed =>
        {
            if (parsed.GetValue(json))
            {
                CliJson.Write(Write);
                return 0;
            }

            foreach (var benchmark in Benchmark.All)
            {
                Console.WriteLine($"{benchmark.Name,-28} {benchmark.Description}");
                Console.WriteLine($"{"",-28} {benchmark.FileNames}");
                Console.WriteLine($"{"",-28} {benchmark.Source}");
            }

            return 0;
        });
        return command;
    }

    private static void Write(Utf8JsonWriter json)
    {
        json.WriteStartArray("benchmarks");
        foreach (var benchmark in Benchmark.All)
        {
            json.WriteStartObject();
            json.WriteString("benchmark", benchmark.Name);
            json.WriteString("description", benchmark.Description);
            json.WriteString("source", benchmark.Source);
            json.WriteStartArray("files");
            foreach (var set in benchmark.Files)
            {
                json.WriteStartArray();
                foreach (var file in set)
                {
                    json.WriteStringValue(file);
                }

                json.WriteEndArray();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }
}
