using System.CommandLine;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 train RECIPE</summary>
internal static class TrainCommand
{
    public static Command Create()
    {
        var recipe = new Argument<string>("recipe") { Description = "YAML, see recipes/" };
        var set = PlanCommand.SetOption();
        var output = new Option<string?>("--out") { Description = "the run's directory; default runs/NAME" };
        var resume = new Option<bool>("--resume") { Description = "go on from the newest verified checkpoint, to the same bits as an uninterrupted run" };
        var device = Devices.Option();
        var profile = new Option<string?>("--profile") { Description = "write a Chrome/Perfetto trace of steps 3 and 4 there (--device cuda)" };
        var command = new Command("train", "Full-parameter SFT in stages. SIGTERM and Ctrl-C save and exit 0.") { recipe, set, output, resume, device, profile };
        command.SetAction(parsed =>
        {
            var loaded = TrainRecipe.Load(parsed.GetValue(recipe)!, parsed.GetValue(set)!);
            var directory = parsed.GetValue(output) ?? Path.Combine("runs", loaded.Name);
            using var stream = Devices.Open(parsed.GetValue(device)!);
            TrainRun.Execute(loaded, directory, parsed.GetValue(resume), stream, Console.Out, parsed.GetValue(profile));
            return 0;
        });
        return command;
    }
}
