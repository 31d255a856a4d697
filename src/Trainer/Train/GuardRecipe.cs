namespace Z1Coder.Trainer.Train;

/// <summary>The `guard` section: what happens when loss or gradient norm is not finite or spikes.</summary>
/// <param name="Skip">skip the step and go on, instead of stopping the run</param>
/// <param name="SpikeZ">standard deviations above the recent mean that count as a spike; 0 switches it off</param>
/// <param name="Window">steps the mean is taken over</param>
/// <param name="MaxSkips">steps skipped in a row before the run stops after all</param>
public sealed record GuardRecipe(bool Skip, double SpikeZ, int Window, int MaxSkips)
{
    /// <summary>Reads the section.</summary>
    public static GuardRecipe From(RecipeTree tree) => new(
        tree.Choice("on_bad_step", "stop", "stop", "skip") == "skip", tree.Number("spike_z", 0), tree.Int("window", 64, 2), tree.Int("max_skips", 10, 1));
}
