"""The words of invitations' codes, for the server alone: who types a code needs no list.

Short English words for things, no two of which begin with the same four letters or differ by one letter alone. 512 of
them: two words are 18 bits, so three guesses find one code in 87,000; four words are 36 bits.
"""

from __future__ import annotations

from random import SystemRandom

_TEXT = """\
acorn actor agent alder alley almond alpine amber anchor angle apple apron arcade arctic arrow
artist aspen atlas attic autumn avenue award bacon badge bagel baker balcony bamboo banana banjo
barley barrel basket bazaar beaver bedrock beetle bellow bench berry bicycle birch biscuit bishop
blanket blossom bonfire bonnet border bottle boulder bracket branch bread breeze brick bridge bronze
brook bucket buffalo bumper bundle burger butter cabin cable cactus camel canal candle canoe canvas
canyon captain caravan carbon carpet carrot cashew castle cedar celery cement cereal chalk channel
chapel charcoal cheese cherry chess chimney cider cinema circle citrus clarinet clay clinic clover
cobalt coconut coffee comet compass copper coral cotton cousin cradle crane crayon cricket crystal
cupboard curtain cushion cycle cymbal daisy dancer dawn deacon delta denim desert diamond diesel
dinner divan doctor dolphin domino donkey dragon drawer drift drum dune dusk eagle earth easel echo
eclipse elbow elegant emerald engine envoy evening fabric falcon family farmer feather fence fiddle
field filter finch fjord flag flannel flask flute folder forest fossil fountain freight frost fruit
funnel furnace galaxy gallery garage garden garlic gazelle geyser giant ginger giraffe glacier glass
glove goblet golden gondola goose gospel granite grape gravel guitar gull gypsum hamlet hammer
harbor harvest hawk hazel helmet herald heron hickory hiking hobby hockey holly honey horizon hornet
hotel hunter husky iceberg igloo indigo insect iris island ivory jacket jaguar jasmine jelly jersey
jigsaw journal juice jungle juniper kayak kennel kettle kidney kilt kingdom kiosk kitchen kite kiwi
knight koala label ladder lagoon lake lantern larch lattice laurel lava lemon lentil library lilac
lime linen lion lizard lobster locket lodge lotus lumber lunar lyric magnet magpie mango mansion
maple marble margin market marsh mason meadow medal melody mentor mercury meteor metro midday milk
mimosa mineral mint mirror mitten molar monsoon morning mosaic motor muffin museum music mustard
myrtle napkin nation nectar needle nephew nickel noodle north notch novel nugget nutmeg oasis
oatmeal oboe ocean octave office olive onion opal opera orange orbit orchard organ otter outfit oven
oxygen oyster paddle palace panda panther paper parade parcel pasta patrol peach peanut pebble
pelican pencil pepper petal phone piano picnic pigeon pillow pilot pine pioneer pirate planet
plaster plum poem pony poppy porch potato powder prairie prism puma pumpkin puppet puzzle pyramid
quail quarry queen quiver rabbit raccoon radar radish raft rain raven razor reef rescue resort
ribbon rice river robin roof rose rowing royal ruby rudder rustic saffron sailor salad salmon sandal
satin saucer savanna scarf school scooter season sequoia shadow shelter sherbet shoulder shrimp
signal silver siren skate sled slipper smoke snail snow soccer sofa soup spark spider spinach spruce
square stable station stone stream studio sugar summer sunset surf swan symbol syrup talent tapestry
tavern teapot temple tennis theater thistle thunder ticket tiger timber toast tomato topaz tower
tractor treasure trumpet tulip turtle twig umbrella uncle unicorn uniform upland vanilla vapor vault
velvet veranda vessel village violin visitor volcano voyage waffle wagon walnut walrus water wheat
window winter wolf wombat wood wren yacht yard yodel yogurt zebra zenith zephyr zero zinc zipper
"""
WORDS = tuple(_TEXT.split())


def phrase(count: int) -> str:
    """So many words by lot, with hyphens between them."""
    return "-".join(SystemRandom().choices(WORDS, k=count))
