using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Train;

/// <summary>What all stages of a run share.</summary>
/// <param name="Recipe">the whole recipe</param>
/// <param name="TokenizerDirectory">tokenizer.json and tokenizer_config.json</param>
/// <param name="Stream">where everything runs</param>
/// <param name="Ranks">all ranks; each runs the same stages in step</param>
/// <param name="Peak">100 % MFU; on rank 0 alone</param>
/// <param name="Resume">continue from the newest verified checkpoint</param>
/// <param name="Stop">a signal to stop</param>
/// <param name="Record">rank 0: writes where and with what the run is made, when its checks are over</param>
/// <param name="Output">plain lines for a person; nowhere but on rank 0</param>
/// <param name="ProfilePath">where a trace of a few steps goes; null for none</param>
internal sealed record TrainContext(
    TrainRecipe Recipe, string TokenizerDirectory, ComputeStream Stream, RankWorld Ranks, GemmPeak Peak, bool Resume, StopSignal Stop,
    Action Record, TextWriter Output, string? ProfilePath = null)
{
    /// <summary>One sentence from a component, on its own line.</summary>
    public void Report(string sentence) => Output.WriteLine(sentence);
}
