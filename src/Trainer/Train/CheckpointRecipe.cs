namespace Z1Coder.Trainer.Train;

/// <summary>The `checkpoint` section.</summary>
/// <param name="Every">steps between checkpoints; 0 means only at the end and on a signal</param>
/// <param name="Keep">newest checkpoints kept</param>
/// <param name="Async">written beside the next steps from a copy in host memory; false stops the steps and needs no copy. The bytes are the
/// same</param>
public sealed record CheckpointRecipe(int Every, int Keep, bool Async = true)
{
    /// <summary>Reads the section.</summary>
    public static CheckpointRecipe From(RecipeTree tree) => new(tree.Int("every", 0), tree.Int("keep", 2, 1), tree.Flag("async", true));
}
