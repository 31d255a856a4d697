using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>One stage of a run: its data, its optimisation, what is watched and what is kept.</summary>
/// <param name="Name">names the stage's directory</param>
/// <param name="Data">what it reads and how samples are made</param>
/// <param name="Train">batch, loss, schedule, optimizer</param>
/// <param name="Guard">what happens on a bad step</param>
/// <param name="Eval">held-out loss and pass@1 while training</param>
/// <param name="Checkpoint">how often, how many</param>
public sealed record StageRecipe(
    string Name, DatasetOptions Data, OptimizeRecipe Train, GuardRecipe Guard, EvalRecipe Eval, CheckpointRecipe Checkpoint)
{
    /// <summary>How the training state is spread over ranks.</summary>
    public ParallelRecipe Parallel { get; init; } = new();

    /// <summary>Reads one entry of `stages`.</summary>
    public static StageRecipe From(RecipeTree tree) => new(
        DirectoryName(tree),
        DataRecipe.From(tree.Section("data")),
        OptimizeRecipe.From(tree.Section("train")),
        GuardRecipe.From(tree.Section("guard")),
        EvalRecipe.From(tree.Section("eval")),
        CheckpointRecipe.From(tree.Section("checkpoint")))
    {
        Parallel = ParallelSection.Read(tree.Section("parallel")),
    };

    private static string DirectoryName(RecipeTree tree)
    {
        var name = tree.RequiredText("name");
        return Path.GetFileName(name) == name && name is not ("." or "..")
            ? name
            : throw tree.Error("name", $"is '{name}', must be the name of a directory, not a path");
    }
}
