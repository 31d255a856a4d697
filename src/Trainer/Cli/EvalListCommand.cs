using System.CommandLine;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval list</summary>
internal static class EvalListCommand
{
    public static Command Create()
    {
        var command = new Command("list", "The benchmarks: what they ask, under which file names they are looked for, and where they come from.");
        command.SetAction(_ =>
        {
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
}
