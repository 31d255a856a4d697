namespace Z1Coder.Trainer.Train;

/// <summary>The `checkpoint` section.</summary>
/// <param name="Every">steps between checkpoints; 0 means only at the end and on a signal</param>
/// <param name="Keep">newest checkpoints kept</param>
public sealed record CheckpointRecipe(int Every, int Keep)
{
    /// <summary>Reads the section.</summary>
    public static CheckpointRecipe From(RecipeTree tree) => new(tree.Int("every", 0), tree.Int("keep", 2, 1));
}
