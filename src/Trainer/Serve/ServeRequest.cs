using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>A request under /v1 that was read and found good.</summary>
/// <param name="IsChat">chat completion, or text completion</param>
/// <param name="Prompts">token ids; one prompt for chat</param>
/// <param name="Choices">completions of each prompt</param>
/// <param name="Options">limits and ends</param>
/// <param name="Sampling">of the first choice; see <see cref="Sampling.OfChoice"/></param>
/// <param name="Stream">events instead of one body</param>
/// <param name="IncludeUsage">a last event with token counts</param>
public sealed record ServeRequest(
    bool IsChat, IReadOnlyList<int[]> Prompts, int Choices, GenerateOptions Options, Sampling Sampling, bool Stream, bool IncludeUsage);
