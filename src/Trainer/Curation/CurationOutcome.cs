using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>What became of one item.</summary>
/// <param name="Verdict">Kept, or dropped for a reason. Either way the item is done and is not asked for again.</param>
/// <param name="Write">Writes the fields of its record.</param>
public sealed record CurationOutcome(Verdict Verdict, Action<Utf8JsonWriter> Write);
