namespace Z1Coder.Trainer.Curation;

/// <summary>A function of open-source code with where it came from.</summary>
/// <param name="Id">file, line and name</param>
/// <param name="Path">file, relative to the directory that was read, or as the JSONL names it</param>
/// <param name="License">SPDX id, or "unknown"</param>
/// <param name="Function">the function</param>
public sealed record SeedFunction(string Id, string Path, string License, PythonFunction Function);
