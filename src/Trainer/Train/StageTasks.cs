using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Train;

/// <summary>What pass@1 of a stage needs, looked at before the first step: hours later would be late to learn that programs cannot be run here.</summary>
/// <param name="All">the tasks; none where the recipe has none</param>
/// <param name="MaxNewTokens">longest answer, tokens</param>
/// <param name="Sandbox">runs the programs; of rank 0 alone</param>
internal sealed record StageTasks(IReadOnlyList<HumanEvalTask> All, int MaxNewTokens, Sandbox? Sandbox)
{
    /// <summary>Reads the tasks and, on rank 0, tries the sandbox.</summary>
    /// <exception cref="Data.InvalidInputException">the file of tasks is wrong</exception>
    /// <exception cref="SandboxException">programs cannot be confined here</exception>
    public static StageTasks Open(EvalRecipe recipe, bool isFirst) => recipe.Tasks is null
        ? new([], recipe.MaxNewTokens, null)
        : new(HumanEvalTask.Read(recipe.Tasks), recipe.MaxNewTokens, isFirst ? Sandbox.Create() : null);
}
