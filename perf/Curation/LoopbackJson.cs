using System.Text.Json.Serialization;

namespace Z1Coder.Perf;

/// <summary>Serialisation without reflection.</summary>
[JsonSerializable(typeof(string))]
internal sealed partial class LoopbackJson : JsonSerializerContext;
