namespace Z1Coder.Trainer.Train;

/// <summary>The `eval` section: what is measured while training.</summary>
/// <param name="LossEvery">steps between evaluations of the held-out loss; 0 means at the end only</param>
/// <param name="Tasks">HumanEval-format file for pass@1; null for none</param>
/// <param name="PassEvery">steps between pass@1 evaluations; 0 means at the end only</param>
/// <param name="MaxNewTokens">longest answer, tokens</param>
public sealed record EvalRecipe(int LossEvery, string? Tasks, int PassEvery, int MaxNewTokens)
{
    /// <summary>Reads the section.</summary>
    public static EvalRecipe From(RecipeTree tree) => new(
        tree.Int("loss_every", 0), tree.Text("tasks"), tree.Int("pass_every", 0), tree.Int("max_new_tokens", 512, 1));
}
