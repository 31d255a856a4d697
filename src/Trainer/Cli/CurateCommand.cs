using System.CommandLine;
using Z1Coder.Trainer.Curation.Nano;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 curate nano, and the verbs that files beside this one hold</summary>
internal static class CurateCommand
{
    public static Command Create() => new("curate", "Makes training data: asks a teacher, filters, decontaminates.") 
    {
        CurateInstructions.Create(), CurateEvolve.Create(), CurateSelfInvoking.Create(), CurateTrajectories.Create(),
        CurateFilter.Filter(), CurateFilter.Decontaminate(), Nano(),
    };

    private static Command Nano()
    {
        var output = new Option<string>("--out") { Description = "directory for the JSONL files", Required = true };
        var seed = new Option<ulong>("--seed") { Description = "draws other problems", DefaultValueFactory = _ => 1 };
        var command = new Command("nano", "The demo's corpus: generated problems, a scripted teacher's reasoning, a held-out benchmark.") { output, seed };
        command.SetAction(parsed =>
        {
            Console.WriteLine(NanoCorpus.Write(parsed.GetValue(output)!, new NanoOptions { Seed = parsed.GetValue(seed) }));
            return 0;
        });
        return command;
    }
}
