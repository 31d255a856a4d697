using System.CommandLine;
using Z1Coder.Trainer.Curation.Nano;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 curate nano, and the verbs that files beside this one hold</summary>
internal static class CurateCommand
{
    public static Command Create() => new(
        "curate",
        """
        Makes training data: asks a teacher, filters, decontaminates. The published recipe, stage by stage:

            Stage 1: z1 curate evolve problems.jsonl ... --out evolved.jsonl              harder and rarer problems
                     z1 curate trajectories evolved.jsonl ... --out trajectories.jsonl    the teacher's reasoning
            Stage 2: z1 curate instructions src/ ... --out instructions.jsonl             open-source code into instructions
                     z1 curate self-invoking instructions.jsonl ... --out self.jsonl      problems that call them, verified by running
            Both:    z1 curate filter trajectories.jsonl --out clean.jsonl                cut, code-less and repeated answers go
                     z1 curate decontaminate clean.jsonl --benchmark HumanEval.jsonl ... --out train.jsonl
        """)
    {
        CurateInstructions.Create(), CurateEvolve.Create(), CurateSelfInvoking.Create(), CurateTrajectories.Create(),
        CurateFilter.Filter(), CurateFilter.Decontaminate(), Nano(),
    };

    private static Command Nano()
    {
        var output = new Option<string>("--out") { Description = "directory for the JSONL files", Required = true };
        var seed = new Option<ulong>("--seed") { Description = "draws other problems", DefaultValueFactory = _ => 1 };
        var command = new Command("nano", "The demo's corpus: generated problems, a scripted teacher's reasoning, a held-out benchmark.")
        {
            output, seed,
        };
        command.SetAction(parsed =>
        {
            Console.WriteLine(NanoCorpus.Write(parsed.GetValue(output)!, new NanoOptions { Seed = parsed.GetValue(seed) }));
            return 0;
        });
        return command;
    }
}
