using System.CommandLine;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 train RECIPE</summary>
internal static class TrainCommand
{
    private const string RecipeName = "recipe", SetName = "--set", OutName = "--out", ResumeName = "--resume";

    /// <summary>What these arguments, without the verb, would train and where; null when they are wrong, which the verb itself then says.</summary>
    public static (TrainRecipe Recipe, string Directory, bool Resume)? Directory(string[] arguments)
    {
        var parsed = Create().Parse(arguments);
        if (parsed.Errors.Count > 0)
        {
            return null;
        }

        var recipe = TrainRecipe.Load(parsed.GetValue<string>(RecipeName)!, parsed.GetValue<string[]>(SetName)!);
        return (recipe, Directory(parsed.GetValue<string?>(OutName), recipe), parsed.GetValue<bool>(ResumeName));
    }

    public static Command Create()
    {
        var recipe = new Argument<string>(RecipeName) { Description = "YAML, see recipes/" };
        var set = PlanCommand.SetOption();
        var output = new Option<string?>(OutName) { Description = "the run's directory; default runs/NAME" };
        var resume = new Option<bool>(ResumeName) { Description = "go on from the newest verified checkpoint, to the same bits as an uninterrupted run" };
        var device = Devices.Option();
        var profile = new Option<string?>("--profile") { Description = "write a Chrome/Perfetto trace of steps 3 and 4 there (--device cuda)" };
        var command = new Command("train", "Full-parameter SFT in stages. SIGTERM and Ctrl-C save and exit 0.") { recipe, set, output, resume, device, profile };
        command.SetAction(parsed =>
        {
            var loaded = TrainRecipe.Load(parsed.GetValue(recipe)!, parsed.GetValue(set)!);
            var directory = Directory(parsed.GetValue(output), loaded);
            using var stream = Devices.Open(parsed.GetValue(device)!);
            TrainRun.Execute(loaded, directory, parsed.GetValue(resume), stream, Console.Out, parsed.GetValue(profile));
            return 0;
        });
        return command;
    }

    private static string Directory(string? given, TrainRecipe recipe) => given ?? Path.Combine("runs", recipe.Name);
}
