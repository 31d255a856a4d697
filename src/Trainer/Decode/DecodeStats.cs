namespace Z1Coder.Trainer.Decode;

/// <summary>Where an engine stands, and what it has done since it was made.</summary>
/// <param name="Waiting">sequences that wait for a slot or for pages</param>
/// <param name="Active">sequences under way</param>
/// <param name="PagesUsed">pages of the cache that sequences hold</param>
/// <param name="Pages">pages there are</param>
/// <param name="PromptTokens">tokens of prompts admitted</param>
/// <param name="CachedTokens">of those, found in the cache and not computed</param>
/// <param name="NewTokens">tokens written</param>
/// <param name="Preempted">sequences put back because pages ran out; their tokens are computed again</param>
public sealed record DecodeStats(int Waiting, int Active, int PagesUsed, int Pages, long PromptTokens, long CachedTokens, long NewTokens, long Preempted);
